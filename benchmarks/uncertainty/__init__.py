"""Standard errors and intervals against simulated truth: ``python -m benchmarks.uncertainty``."""
