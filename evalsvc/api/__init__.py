"""Both ends of the HTTP API."""
