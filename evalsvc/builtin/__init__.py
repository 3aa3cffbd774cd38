"""Built-in plug-ins."""
