"""Markdown for ``$GITHUB_STEP_SUMMARY`` and for a pull request's sticky comment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evalsvc.gates.reports.text import MARKS, baseline, candidate, limit, mark, notices, plain, title, values

MARKER = "<!-- evalsvc-gate -->"
"""By this line a workflow finds its earlier comment, and edits it instead of adding another."""
LONGEST_COMMENT = 65_000
"""GitHub takes 65,536 characters."""


def summary(document: Mapping[str, Any]) -> str:
    """The verdict, what must not be missed about it, a table of limits, the warnings."""
    verdict, evidence = document["verdict"], document["evidence"]
    lines = [
        f"## {mark(document)} Gate {title(document)}",
        "",
        *(f"> {_code(notice)}\n" for notice in notices(document)),
        f"{_code(candidate(document))} against {_code(baseline(document))} under {_code(document['suite'])}, "
        f"decided on {evidence['samples']} samples; looks: {len(evidence['looks'])}.",
        "",
        "| score | candidate | baseline | limit | tier | status | why |",
        "|---|---|---|---|---|---|---|",
    ]
    for metric in verdict["metrics"]:
        mine, theirs = values(document, metric["metric"])
        limits = metric["limits"] or [{"kind": "", "limit": 0, "status": metric["status"], "reason": metric["reason"]}]
        for each in limits:
            words = limit(each["kind"], each["limit"]) if each["kind"] else "–"
            shown = f"{MARKS[each['status']]} {each['status']}" + (" (waived)" if metric["waiver"] else "")
            cells = (_code(metric["metric"]), mine, theirs, words, metric["tier"], shown, _code(each["reason"]))
            lines.append(f"| {' | '.join(cells)} |")
    lines += ["", *(f"- {_code(warning)}" for warning in verdict["warnings"])]
    return "\n".join(lines).rstrip() + "\n"


def comment(document: Mapping[str, Any]) -> str:
    """The summary as a comment body that is never too long for GitHub."""
    lines = [MARKER, *summary(document).splitlines()]
    kept: list[str] = []
    length = 0
    for line in lines:
        length += len(line) + 1
        if length > LONGEST_COMMENT:
            kept += ["", "More is in the job's summary."]
            break
        kept.append(line)
    return "\n".join(kept) + "\n"


def _code(text: object) -> str:
    """Text that no Markdown, mention or link comes out of: entities are never syntax, and code is never linked."""
    shown = plain(text)
    coded = "".join(c if c.isalnum() or c == " " else f"&#{ord(c)};" for c in shown)
    return f"<code>{coded}</code>" if shown else "–"
