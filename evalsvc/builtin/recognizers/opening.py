"""Opening of recognizers: one for all scorers that name the same model and settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from weakref import WeakValueDictionary

from pydantic import ValidationError

from evalsvc.builtin.recognizers.faster_whisper import FasterWhisper
from evalsvc.builtin.recognizers.interface import RecognizerUse, Transcripts
from evalsvc.builtin.recognizers.pretrained import Pretrained
from evalsvc.core.digests import digest_json, digest_path
from evalsvc.core.errors import InputError
from evalsvc.metrics.lazy_torch import torch

_KINDS: Mapping[str, type[FasterWhisper | Pretrained]] = {"faster-whisper": FasterWhisper, "transformers": Pretrained}
_OPEN: WeakValueDictionary[str, Transcripts] = WeakValueDictionary()


def open_recognizer(options: Mapping[str, Any], who: str, device: torch.device) -> Transcripts:
    """The recognizer that the option of a scorer describes; ``who`` names the scorer in errors.

    Raises:
        InputError: an option is unknown or of a wrong type, the library is missing, or the model cannot be opened.
    """
    try:
        use = RecognizerUse.model_validate(options)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, ("recognizer", *first["loc"])))
        raise InputError(f"invalid option {where}={first['input']!r:.80} of {who}: {first['msg']}") from None
    kind = _KINDS[use.use]
    folder = kind.folder(use.model, who)
    weights = digest_path(folder)
    key = digest_json([use.model_dump(), weights, str(device)])
    found = _OPEN.get(key)
    if found is None:
        found = _OPEN[key] = Transcripts(kind(folder, weights, use, who, device))
    return found
