"""Evaluation and benchmarking of generative models: the service."""
