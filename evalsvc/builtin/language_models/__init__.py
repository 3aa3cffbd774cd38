"""Causal language models: loading, scoring and generation."""
