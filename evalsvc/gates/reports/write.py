"""Write reports: the requested files, and the files that GitHub names in the environment."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evalsvc.core.errors import InputError, StorageError
from evalsvc.gates.reports import ci, huggingface, markdown
from evalsvc.gates.reports.page import page

Document = Mapping[str, Any]
FORMATS: dict[str, Callable[[Document], str]] = {
    "json": lambda document: json.dumps(document, indent=2, allow_nan=False) + "\n",
    "junit": ci.junit,
    "markdown": markdown.summary,
    "comment": markdown.comment,
    "annotations": ci.workflow_commands,
    "github-output": ci.github_output,
    "gitlab-metrics": ci.gitlab_metrics,
    "badge": ci.badge,
    "model-index": huggingface.model_index,
    "eval-results": huggingface.eval_results,
}


def requested(pairs: Sequence[str]) -> dict[str, list[Path]]:
    """Parse ``format=path`` pairs into the paths of each format, before a gate runs.

    Raises:
        InputError: a format is unknown, or two reports have the same path.
    """
    found: dict[str, list[Path]] = {}
    taken = set()
    for pair in pairs:
        name, equals, path = pair.partition("=")
        if not equals or not Path(path).name or name not in (*FORMATS, "html"):
            raise InputError(
                f"invalid report {pair!r}: use FORMAT=PATH, where FORMAT is one of {', '.join((*FORMATS, 'html'))}"
            )
        if Path(path).resolve() in taken:
            raise InputError(f"two reports have the path {path}: choose another path for one of them")
        taken.add(Path(path).resolve())
        found.setdefault(name, []).append(Path(path))
    return found


def write(
    document: Document, reports: Mapping[str, Sequence[Path]], grids: Mapping[str, np.ndarray] | None = None
) -> None:
    """Write each report atomically."""
    for name, path in [(name, path) for name, paths in reports.items() for path in paths]:
        text = page(document, grids) if name == "html" else FORMATS[name](document)
        beside = path.with_name(f".{path.name}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            beside.write_text(text, encoding="utf-8")
            beside.replace(path)
        except OSError as error:
            raise StorageError(f"report {path} could not be written ({error.strerror})") from None


def tell_github(document: Document, environment: Mapping[str, str]) -> str:
    """Append to the files that GitHub Actions names; return the workflow commands for the log."""
    for variable, render in (("GITHUB_STEP_SUMMARY", markdown.summary), ("GITHUB_OUTPUT", ci.github_output)):
        if path := environment.get(variable):
            try:
                with Path(path).open("a", encoding="utf-8") as file:
                    file.write(render(document))
            except OSError as error:
                raise StorageError(f"{variable} could not be written to {path} ({error.strerror})") from None
    return ci.workflow_commands(document) if environment.get("GITHUB_ACTIONS") == "true" else ""
