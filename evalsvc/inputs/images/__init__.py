"""Image files, decoded ahead of time by worker processes."""
