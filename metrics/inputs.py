"""What metrics read: the form of each input, and where an evaluation takes it from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


class Form(StrEnum):
    """What an input is: rows (n, d), one number a row (n,), or one text a row."""

    MATRIX = "matrix"
    NUMBERS = "numbers"
    TEXTS = "texts"


class Source(StrEnum):
    """Where an evaluation takes an input from; what only a ``CALLER`` has no evaluation supplies."""

    SAMPLES = "samples"
    REFERENCE = "reference"
    PROMPTS = "prompts"
    LIKELIHOOD = "likelihood"
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
"""The inputs that metrics share, by name. A metric that reads something else declares it itself."""
