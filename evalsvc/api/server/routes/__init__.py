"""Routes, one file per noun; each has a ``router``."""
