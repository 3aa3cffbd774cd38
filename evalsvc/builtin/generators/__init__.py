"""Generators that serve many models: stored samples, and any importable torch module."""
