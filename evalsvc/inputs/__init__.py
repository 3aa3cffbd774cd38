"""Validated inputs: checkpoints, suites, references, samples, texts."""
