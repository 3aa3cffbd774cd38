"""Callbacks that submit checkpoints from inside training, without slowing it and without ever stopping it."""
