"""Result of one conformance check."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One check of a plug-in, its result, and the observation."""

    check: str
    ok: bool
    detail: str


def stated(what: str, **texts: str) -> Finding:
    """Check that none of these texts is empty; ``what`` names their owner."""
    missing = [name for name, text in texts.items() if not text.strip()]
    return Finding(f"{what}: {', '.join(texts)}", not missing, f"empty: {', '.join(missing)}" if missing else "stated")
