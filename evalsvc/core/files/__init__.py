"""Safe reading and writing of files: regular, bounded, atomic, durable, verified."""
