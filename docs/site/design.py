"""The list of design records, from the records themselves."""

from __future__ import annotations

import re

from docs.site.sources import ROOT
from docs.site.tables import table

INTRODUCTION = """# Design records

Decisions that a later reader would question: what failed before, what was decided, and how it was shown to work. A
record is not rewritten when a decision changes; a later one says so.
"""
RECORD = re.compile(r"# (?P<title>.+)\n\n\*Accepted on (?P<date>\d{4}-\d\d-\d\d)\.\*\n")


def design_page() -> str:
    """Markdown of all records in order."""
    rows = []
    for path in sorted((ROOT / "docs" / "design").glob("*.md")):
        record = RECORD.match(path.read_text())
        if record is None:
            raise ValueError(f"{path} does not begin with a title and the line '*Accepted on YYYY-MM-DD.*'")
        rows.append((path.stem[:4], f"[{record['title']}]({path.name})", record["date"]))
    return INTRODUCTION + "\n" + table(("number", "decision", "accepted"), rows)
