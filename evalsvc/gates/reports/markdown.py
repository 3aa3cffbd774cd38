"""Markdown for ``$GITHUB_STEP_SUMMARY`` and for a sticky comment on a pull request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evalsvc.gates.reports.text import (
    LONGEST,
    MARKS,
    baseline,
    candidate,
    limit,
    mark,
    notices,
    plain,
    scoped,
    title,
    values,
)

MARKER = "<!-- evalsvc-gate -->"
"""The line by which a workflow finds its earlier comment, to edit it instead of adding another."""
LONGEST_COMMENT = 65_000
"""GitHub accepts 65,536 characters."""

LONGEST_TEXT = 80
"""Maximum length of a text of an item, in characters, of which each may take seven in Markdown."""


def summary(document: Mapping[str, Any]) -> str:
    """The verdict, its qualifiers, a table of limits, and the warnings."""
    verdict, evidence = document["verdict"], document["evidence"]
    lines = [
        f"## {mark(document)} Gate {title(document)}",
        "",
        *(f"> {_code(notice)}\n" for notice in notices(document)),
        f"{_code(candidate(document))} against {_code(baseline(document))} under {_code(document['suite'])}, "
        f"decided{scoped(document)} on {evidence['samples']} samples in {len(evidence['looks'])} look(s).",
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
    lines += [line for each in document.get("items", ()) for line in _regressions(each)]
    return "\n".join(lines).rstrip() + "\n"


def comment(document: Mapping[str, Any]) -> str:
    """The summary as a comment body, truncated to GitHub's limit."""
    lines = [MARKER, *summary(document).splitlines()]
    kept: list[str] = []
    length = 0
    for line in lines:
        length += len(line) + 1
        if length > LONGEST_COMMENT:
            kept += ["", "Truncated: see the job summary for the rest."]
            break
        kept.append(line)
    return "\n".join(kept) + "\n"


def _regressions(items: Mapping[str, Any]) -> list[str]:
    """The items of one scorer that got worse most."""
    lines = [
        "",
        f"### Items that got worse by {_code(items['of'])}: {items['worse']} of {items['paired']}",
        "",
        "| change | item | prompt | target | baseline | candidate |",
        "|---|---|---|---|---|---|",
    ]
    for each in items["regressions"]:
        texts = (each[name] for name in ("item", "prompt", "target", "baseline_answer", "candidate_answer"))
        lines.append(f"| {each['difference']:+.4g} | {' | '.join(_code(text, LONGEST_TEXT) for text in texts)} |")
    return lines


def _code(text: object, longest: int = LONGEST) -> str:
    """Escape text so that it cannot become Markdown, a mention or a link: entities are never syntax, and code is never
    linked.
    """
    shown = plain(text, longest)
    coded = "".join(c if c.isalnum() or c == " " else f"&#{ord(c)};" for c in shown)
    return f"<code>{coded}</code>" if shown else "–"
