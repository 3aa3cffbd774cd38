"""Scores, their protocols, and the files of an evaluation."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict

from evalsvc.api.schemas.common import Response
from evalsvc.core import columns


class Score(Response, columns.ScoreColumns):
    """One value with its uncertainty. Scores of different ``protocol`` are not comparable.

    ``independent`` counts the independent units behind the error, and ``independent_unit`` names them: samples,
    prompts, items, groups or documents; ``null`` for old scores. ``mark`` follows ``model@step`` in the name if another
    checkpoint or configuration shares it.

    ``stderr`` and the interval hold on this reference file. ``stderr_reference`` is what redrawing the reference's rows
    adds to the error (the total is the root of the sum of both squares); ``null`` where ``reference_method`` says why.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "flow",
                    "family": "flow",
                    "step": 4000,
                    "digest": "9f2c1f7d" * 8,
                    "configuration": "5d1c90ab" * 8,
                    "checkpoint_id": 7,
                    "evaluation_id": 12,
                    "suite": "digits@1",
                    "position": 0,
                    "label": "frechet_distance",
                    "value": 25.17,
                    "stderr": 0.99,
                    "ci_low": 23.22,
                    "ci_high": 27.12,
                    "n": 2000,
                    "direction": "lower",
                    "unit": "squared feature units",
                    "stderr_method": "influence function, own noise taken off by halves",
                    "protocol": "1d5f290c8520883f",
                    "created_at": "2026-11-25T18:00:00Z",
                    "independent": 2000,
                    "independent_unit": "samples",
                    "mark": "",
                    "skewness": 0.21,
                    "stderr_reference": 0.83,
                    "reference_method": "influence of the reference's rows",
                    "target": None,
                    "target_stderr": None,
                }
            ]
        }
    )

    # Fields that older servers do not send; the others are those of columns.ScoreColumns.
    digest: str = ""
    configuration: str = ""
    direction: Literal["lower", "higher", "neutral"]


class Protocol(Response):
    """The facts that make two scores comparable."""

    id: str
    facts: dict[str, Any]


class Artifact(Response):
    """A file that belongs to an evaluation."""

    id: int
    kind: str
    bytes: int
    digest: str
