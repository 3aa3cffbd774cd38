"""What metrics raise."""


class MetricError(ValueError):
    """The inputs cannot give this metric; the message names what is missing and the way out."""
