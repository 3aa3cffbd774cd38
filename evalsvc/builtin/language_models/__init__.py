"""Causal language models: opened, asked how likely documents are, and made to write."""
