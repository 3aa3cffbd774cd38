import os

from hypothesis import settings

# A busy machine breaks deadlines, and CI must not find on one day what it missed on another: it tries fixed examples.
settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")
