"""Which browsers may fetch the files that pages show: those whose page was let in a moment ago."""

from __future__ import annotations

from time import monotonic

COOKIE = "evalsvc_visit"
LASTS = 120.0
"""Seconds for which files stay open to a browser after its page was last let in; pages ask every two."""


class Visits:
    """Browsers by a random cookie. A page asks for its data over a socket, but its pictures and downloads come by plain
    addresses; this cookie makes an address worth nothing to others, and ends with the token.
    """

    def __init__(self) -> None:
        self._seen: dict[str, float] = {}

    def let_in(self, visit: str) -> None:
        """The page of this browser was let in now."""
        now = monotonic()
        self._seen = {each: at for each, at in self._seen.items() if now - at < LASTS} | {visit: now}

    def end(self, visit: str) -> None:
        """This browser has signed out."""
        self._seen.pop(visit, None)

    def known(self, visit: str) -> bool:
        """Whether files are open to this browser."""
        return bool(visit) and monotonic() - self._seen.get(visit, -LASTS) < LASTS


VISITS = Visits()
"""Those of this process."""
