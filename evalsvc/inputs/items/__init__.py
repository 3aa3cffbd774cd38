"""Item sets: what the samples of a suite are for."""
