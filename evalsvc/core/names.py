"""Names that both ends of the API and the plug-ins share."""

SERVED = "openai-compatible"
"""The generator of endpoints."""
