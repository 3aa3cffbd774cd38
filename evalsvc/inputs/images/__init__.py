"""Image files, decoded ahead of time in processes of their own."""
