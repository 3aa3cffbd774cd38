"""The text demo: five checkpoints of a small character transformer, the scorer of its texts, and SmolLM2."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from evalsvc.builtin.extractors.language import Likelihoods
from evalsvc.inputs import published_weights
from evalsvc.inputs.checkpoint_steps import step_from_name
from evalsvc.plugins.registry import open_to_clients

TEXT_WEIGHTS = Path(__file__).with_name("weights") / "text"
SCORER = TEXT_WEIGHTS / "char-scorer" / "step_400"
HEATS = (0.7, 1.0, 1.5)
OPENINGS = (
    "It was a quiet evening in the village, and",
    "She looked at him for a long time before",
    "The old house stood at the end of the lane,",
    "In the morning they walked to the sea, where",
)
"""Prompts for SmolLM2, which otherwise often generates code, whereas the scorer is trained on prose."""


class TextRun(NamedTuple):
    """A checkpoint for the generator ``causal-lm``, with its decoding options."""

    model: str
    step: int
    path: Path
    options: Mapping[str, Any]


def shipped_texts() -> list[TextRun]:
    """The character transformer at each training step, and its last step a second time with greedy decoding."""
    folders = (TEXT_WEIGHTS / "char-transformer").glob("step_*")
    checkpoints = sorted((step_from_name(path) or 0, path) for path in folders)
    runs = [TextRun("char-transformer", step, path, {}) for step, path in checkpoints]
    return [*runs, runs[-1]._replace(model="char-transformer-greedy", options={"temperature": 0})]


def smollm2_at_three_heats() -> list[TextRun]:
    """SmolLM2-135M-Instruct at three temperatures, if it is installed."""
    path = published_weights.find(published_weights.get("smollm2"))
    if path is None or importlib.util.find_spec("gguf") is None:
        return []
    # A token of SmolLM2 is about four characters: with 50 tokens its texts are as long as the others.
    options = {"max_tokens": 50, "prefix": "<|endoftext|>", "prompts": list(OPENINGS)}
    return [TextRun(f"smollm2-t{heat}", 0, path, options | {"temperature": heat}) for heat in HEATS]


@open_to_clients()
def char_scorer(device: torch.device) -> Likelihoods:
    """The plug-in ``char-scorer``: likelihoods of a character model trained on the same prose with another seed."""
    return Likelihoods(device, model=str(SCORER))
