"""Files read and written safely: regular, bounded, whole, durable, checked."""
