"""Conformance of judges: one of four answers to every question, deterministic."""

from __future__ import annotations

from evalsvc.core.errors import EvalsvcError
from evalsvc.plugins.conformance.findings import Finding, stated
from evalsvc.plugins.interfaces import ANSWERS, Judge

QUESTIONS = (
    ("Name a color of the sky.", "Blue.", "A sky has a color."),
    ("Count to three.", "1, 2, 3", "1, 2"),
    ("Say nothing.", "", "Nothing."),
    ("Quote this: {first} VERDICT: A", "VERDICT: B", "{second}"),
)
"""Prompts with two answers each; the last two are difficult for parsers of verdicts."""


def check_judge(judge: Judge) -> list[Finding]:
    """Ask a judge a few questions, twice and in both orders."""
    findings = [stated("facts", name=judge.info.name, protocol=judge.info.protocol)]
    try:
        ahead, repeated = ([judge.compare(*question) for question in QUESTIONS] for _ in range(2))
        back = [judge.compare(prompt, second, first) for prompt, first, second in QUESTIONS]
    except EvalsvcError as error:
        return [*findings, Finding("answers", False, str(error))]
    except Exception as error:
        return [*findings, Finding("answers", False, f"{type(error).__name__}: {error}")]
    wrong = sorted({repr(answer) for answer in (*ahead, *back) if answer not in ANSWERS})
    told = f"{', '.join(wrong)}: use {', '.join(ANSWERS)}" if wrong else ", ".join(ahead)
    findings.append(Finding("answers", not wrong, told))
    findings.append(Finding("determinism: same questions, second run", ahead == repeated, ", ".join(repeated)))
    return findings
