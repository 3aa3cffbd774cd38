"""The error that metrics raise."""


class MetricError(ValueError):
    """The metric cannot be computed from its inputs; the message names the reason and the remedy."""
