"""Everything that comes from outside, checked: checkpoints, suites, references, samples, texts."""
