"""Access to files of pages for browsers whose page was recently admitted."""

from __future__ import annotations

from time import monotonic

COOKIE = "evalsvc_visit"
VALID_SECONDS = 120.0
"""Seconds for which files remain accessible after a page was last admitted; pages refresh every two seconds."""


class Visits:
    """Browsers identified by a random cookie.

    A page receives its data over a socket, but its pictures and downloads have plain URLs. The cookie makes a URL
    useless to others, and expires with the token.
    """

    def __init__(self) -> None:
        self._seen: dict[str, float] = {}

    def admit(self, visit: str) -> None:
        """Record that the page of this browser was admitted."""
        now = monotonic()
        self._seen = {each: at for each, at in self._seen.items() if now - at < VALID_SECONDS} | {visit: now}

    def end(self, visit: str) -> None:
        """Forget this browser after it signed out."""
        self._seen.pop(visit, None)

    def is_admitted(self, visit: str) -> bool:
        """Whether files are accessible to this browser."""
        return bool(visit) and monotonic() - self._seen.get(visit, -VALID_SECONDS) < VALID_SECONDS


VISITS = Visits()
"""The visits of this process."""
