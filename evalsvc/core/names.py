"""Names shared by the API and the plug-ins."""

SERVED = "openai-compatible"
"""The generator for endpoints."""
