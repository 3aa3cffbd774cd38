"""Speech recognizers: a sound to the text that is heard in it."""
