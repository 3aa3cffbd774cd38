"""Inputs of metrics: the form of each, and its source in an evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


class Form(StrEnum):
    """Form of an input: rows (n, d), one number per row (n,), one text per row, or one state per row."""

    MATRIX = "matrix"
    NUMBERS = "numbers"
    TEXTS = "texts"
    STATES = "states"


class Source(StrEnum):
    """Source of an input in an evaluation; only a caller of the function can supply a ``CALLER`` input."""

    SAMPLES = "samples"
    REFERENCE = "reference"
    PROMPTS = "prompts"
    LIKELIHOOD = "likelihood"
    SCORER = "scorer"
    ITEMS = "items"
    CALLER = "caller"


@dataclass(frozen=True, slots=True)
class Input:
    """One input of metrics, by the name of its parameter.

    A matrix of samples or of a reference holds features. ``split`` is the part of the reference that it is always of;
    without one it is of the part that a suite measures against.
    """

    name: str
    form: Form
    source: Source = Source.CALLER
    split: Literal["train", "heldout"] | None = None


INPUTS = {
    each.name: each
    for each in (
        Input("generated", Form.MATRIX, Source.SAMPLES),
        Input("x", Form.MATRIX, Source.SAMPLES),
        Input("logits", Form.MATRIX, Source.SAMPLES),
        Input("texts", Form.TEXTS, Source.SAMPLES),
        Input("reference", Form.MATRIX, Source.REFERENCE),
        Input("train", Form.MATRIX, Source.REFERENCE, "train"),
        Input("heldout", Form.MATRIX, Source.REFERENCE, "heldout"),
        Input("train_texts", Form.TEXTS, Source.REFERENCE, "train"),
        Input("heldout_texts", Form.TEXTS, Source.REFERENCE, "heldout"),
        Input("prompts", Form.MATRIX, Source.PROMPTS),
        Input("values", Form.NUMBERS, Source.SCORER),
        Input("failures", Form.NUMBERS, Source.SCORER),
        Input("items", Form.NUMBERS, Source.ITEMS),
        Input("sums", Form.MATRIX, Source.SCORER),
        Input("states", Form.STATES, Source.SCORER),
        Input("nll", Form.NUMBERS, Source.LIKELIHOOD),
        Input("tokens", Form.NUMBERS, Source.LIKELIHOOD),
        Input("words", Form.NUMBERS, Source.LIKELIHOOD),
        Input("bytes", Form.NUMBERS, Source.LIKELIHOOD),
        Input("dims", Form.NUMBERS, Source.LIKELIHOOD),
        Input("nll_a", Form.NUMBERS),
        Input("nll_b", Form.NUMBERS),
        Input("units", Form.NUMBERS),
    )
}
"""Inputs that metrics share, by name. A metric with another input declares it."""
