"""Recognizers of ``transformers``: Whisper, and networks with a CTC head (wav2vec 2.0, HuBERT)."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from evalsvc.builtin.pretrained import NO_CODE, offline, open_pretrained, open_tokenizer
from evalsvc.builtin.recognizers.interface import RATE, RecognizerUse, Wave
from evalsvc.core.errors import CheckpointError, InputError, first_line
from evalsvc.metrics.lazy_torch import torch

SHORTEST = 400
"""Samples of the shortest wave that the convolutions of wav2vec 2.0 take; shorter ones are padded with silence."""


class Pretrained:
    """A folder of ``transformers`` with safetensors, a tokenizer and a feature extractor, in float32.

    A CTC head is read greedily, frame by frame; a Whisper by beam search.
    """

    def __init__(self, folder: Path, weights: str, use: RecognizerUse, who: str, device: torch.device) -> None:
        self._whisper = _model_type(folder, who) == "whisper"
        kind = "WhisperForConditionalGeneration" if self._whisper else "AutoModelForCTC"
        self._model, _, _ = open_pretrained(kind, str(folder), who, "asr")
        self._tokenizer = open_tokenizer(folder, who)
        self._features = _feature_extractor(folder, who)
        if self._features.sampling_rate != RATE:
            raise InputError(f"{folder} hears {self._features.sampling_rate} Hz, but {who} needs a model of {RATE} Hz")
        self._model.to(device)
        self._device, self._use = device, use
        generation = self._model.generation_config if self._whisper else None
        self._told = bool(getattr(generation, "is_multilingual", False))
        codes = getattr(generation, "lang_to_id", None) or {}
        self.languages = frozenset(code.strip("<|>") for code in codes) if self._told else frozenset()
        self.weights = weights
        decoding = f"{use.beams} beams" if self._whisper else "greedy CTC"
        self.facts: Mapping[str, str] = {
            "recognizer": f"transformers {importlib.metadata.version('transformers')}, float32 on {device.type}",
            "decoding": f"{decoding}, no timestamps, windows of {use.window:g} s",
        }

    @staticmethod
    def folder(model: str, who: str) -> Path:
        """The folder of a model; nothing is downloaded."""
        folder = Path(model)
        if not model or not folder.is_dir():
            raise InputError(
                f"{who}: recognizer 'transformers' reads a folder, and model={model!r} is not one: name it"
            )
        return folder

    @torch.inference_mode()
    def hear(self, wave: Wave, language: str) -> str:
        """The transcript, window by window."""
        length = round(self._use.window * RATE)
        texts = [self._window(wave[start : start + length], language) for start in range(0, len(wave), length)]
        return " ".join(filter(None, texts))

    def _window(self, wave: Wave, language: str) -> str:
        padded = np.pad(wave, (0, max(0, SHORTEST - len(wave))))
        inputs = self._features(padded, sampling_rate=RATE, return_tensors="pt").to(self._device)
        if not self._whisper:
            tokens = self._model(inputs["input_values"]).logits.argmax(-1)[0]
        else:
            told = {"language": language, "task": "transcribe"} if self._told else {}
            tokens = self._model.generate(inputs["input_features"], num_beams=self._use.beams, do_sample=False, **told)[
                0
            ]
        said: str = self._tokenizer.decode(tokens, skip_special_tokens=True)
        return said.strip()


def _model_type(folder: Path, who: str) -> str:
    try:
        return str(json.loads((folder / "config.json").read_bytes())["model_type"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"{folder / 'config.json'} does not say its model_type ({first_line(error, 160)}): {who} needs it"
        ) from None


def _feature_extractor(folder: Path, who: str) -> Any:
    from transformers import AutoFeatureExtractor

    try:
        with offline():
            return AutoFeatureExtractor.from_pretrained(folder, local_files_only=True, **NO_CODE)
    except Exception as error:  # of many types for hostile configurations
        raise InputError(
            f"{folder} has no feature extractor that loads for {who} ({first_line(error, 160)}): put its "
            "preprocessor_config.json beside the weights"
        ) from None
