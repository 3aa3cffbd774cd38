"""Generators for many models: stored samples, torch modules, language models."""
