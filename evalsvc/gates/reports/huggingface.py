"""Results for a model card on the Hugging Face Hub: ``model-index`` front matter and ``.eval_results`` files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from evalsvc.gates.reports.text import errors_of, notices, observed, plain

TASKS = {"image": "unconditional-image-generation", "text": "text-generation"}


def model_index(document: Mapping[str, Any]) -> str:
    """Front matter of a model card with the candidate's gated scores."""
    suite = plain(document["suite"], 100)
    metrics = [
        {
            "type": name,
            "name": name,
            "value": side["value"],
            "args": {"stderr": side["stderr"], **errors_of(side), "n": side["n"]},
        }
        for name, side in _scores(document)
    ]
    task = TASKS.get(document["modality"], "other")
    result = {"task": {"type": task}, "dataset": {"type": suite, "name": suite}, "metrics": metrics}
    body = {"model-index": [{"name": plain(document["candidate"]["model"], 100), "results": [result]}]}
    return f"---\n{_notices(document)}{yaml.safe_dump(body, sort_keys=False, allow_unicode=True)}---\n"


def eval_results(document: Mapping[str, Any]) -> str:
    """The content of an ``.eval_results/*.yaml`` file: one entry per score."""
    suite = plain(document["suite"], 100)
    entries = [
        {"dataset": {"id": suite, "task_id": name}, "value": side["value"], "notes": _notes(side)}
        for name, side in _scores(document)
    ]
    return _notices(document) + yaml.safe_dump(entries, sort_keys=False, allow_unicode=True)


def _notes(side: Mapping[str, Any]) -> str:
    reference = errors_of(side).get("stderr_reference")
    return f"standard error {side['stderr']}" + (f", of the reference {reference:.3g}" if reference else "")


def _notices(document: Mapping[str, Any]) -> str:
    return "".join(f"# {notice}\n" for notice in notices(document))


def _scores(document: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for metric in document["verdict"]["metrics"]:
        side = observed(document, metric["metric"])
        if side is not None:
            yield plain(metric["metric"], 100), side
