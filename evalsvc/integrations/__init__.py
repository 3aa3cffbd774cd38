"""Callbacks that submit checkpoints during training, without delaying or interrupting it."""
