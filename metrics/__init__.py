"""Metrics of generative models: arrays in, scores with error bars out."""
