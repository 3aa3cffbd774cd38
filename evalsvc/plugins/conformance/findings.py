"""One clause of a plug-in's contract, and how it came out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """A clause, whether the plug-in keeps it, and what was seen."""

    check: str
    ok: bool
    detail: str


def stated(what: str, **texts: str) -> Finding:
    """Whether all of these texts say something; ``what`` is whose they are."""
    missing = [name for name, text in texts.items() if not text.strip()]
    return Finding(f"{what}: {', '.join(texts)}", not missing, f"empty: {', '.join(missing)}" if missing else "stated")
