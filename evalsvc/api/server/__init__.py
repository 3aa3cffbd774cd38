"""The HTTP API: ``create_app`` in :mod:`evalsvc.api.server.app`."""
