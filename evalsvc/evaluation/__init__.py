"""From one specification to its stored scores."""
