"""The interface of recognizers of speech, the option that describes one, and its transcripts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Literal, Protocol

import numpy as np
from jaxtyping import Float32
from pydantic import BaseModel, ConfigDict, Field

Wave = Float32[np.ndarray, " t"]
RATE = 16_000
"""Samples per second of the waves that recognizers take."""
REMEMBERED = 10_000
"""Maximum number of transcripts that are kept."""


class RecognizerUse(BaseModel):
    """Option ``recognizer`` of a scorer: which model hears, and how it decodes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    use: Literal["faster-whisper", "transformers"] = "faster-whisper"
    """``faster-whisper``, or ``transformers`` for a Whisper or a network with a CTC head."""
    model: str = ""
    """Folder of the model; by default, ``faster-whisper`` takes tiny.en of its package."""
    beams: int = Field(1, ge=1, le=20)
    """Width of the beam search of a Whisper; 1 is greedy."""
    window: float = Field(30.0, ge=1.0, le=30.0)
    """Seconds of sound that are heard at once; Whisper was trained on 30."""


class Recognizer(Protocol):
    """A model that writes down speech, deterministically."""

    weights: str
    """sha256 of its files."""
    facts: Mapping[str, str]
    """Everything else that can change a transcript."""
    languages: frozenset[str]
    """Codes of the languages that it can be told to expect; empty for a model that is not told."""

    def hear(self, wave: Wave, language: str) -> str:
        """The transcript of a finite mono wave at 16 kHz of any length."""
        ...


class Transcripts:
    """A recognizer that hears each sound once, for all scorers that use it."""

    def __init__(self, recognizer: Recognizer) -> None:
        self.recognizer = recognizer
        self._heard: dict[tuple[str, str], str] = {}

    def unheard(self, language: str) -> str:
        """The reason why the recognizer does not hear a language; empty if it does."""
        known = self.recognizer.languages
        if not known or language in known:
            return ""
        return f"the recognizer hears {', '.join(sorted(known))[:80]}, not {language!r}"

    def of(self, wave: Wave, language: str) -> str:
        """The transcript of a wave."""
        key = hashlib.sha256(wave.tobytes()).hexdigest(), language
        if key not in self._heard:
            if len(self._heard) >= REMEMBERED:
                self._heard.clear()
            self._heard[key] = self.recognizer.hear(wave, language)
        return self._heard[key]
