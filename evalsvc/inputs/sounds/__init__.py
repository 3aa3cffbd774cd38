"""Sound files: WAV by SciPy; FLAC, MP3, Ogg, AIFF and parts of long files by libsndfile (extra ``audio``)."""
