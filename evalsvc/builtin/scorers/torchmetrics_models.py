"""Models of ``transformers`` for classes of torchmetrics that would download theirs: from a folder, without code."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from evalsvc.builtin.pretrained import NO_CODE, offline, open_pretrained, open_tokenizer
from evalsvc.core.errors import InputError
from evalsvc.plugins.torchmetrics_classes import MODEL, MODELS, ClassUse


def with_model(use: ClassUse, device: torch.device) -> tuple[Mapping[str, Any], str]:
    """The options of a class's constructor with its model in place of the folder's name, and the model's digest.

    Raises:
        InputError: the folder has no such model, or lacks its tokenizer or image processor.
    """
    if use.kind.__name__ not in MODELS:
        return use.options, "none"
    kind, extra = MODELS[use.kind.__name__]
    who = f"torchmetrics class {use.name!r}"
    where = str(use.options[MODEL])
    model, digest, folder = open_pretrained(kind, where, who, extra, **_without_pooler(kind, where))
    open_tokenizer(folder, who)
    options = {**use.options, MODEL: str(folder)}
    if kind == "CLIPModel":
        pair = _ClipFeatures(model.to(device)), _processor(folder, who)
        options[MODEL] = lambda: pair
    elif kind == "AutoModel":
        options |= {"model": model.to(device), "device": device}
    else:
        # The class opens the folder again by itself, and takes no model.
        options |= {"device": device, "verbose": False}
    return options, digest


def _without_pooler(kind: str, where: str) -> dict[str, bool]:
    """The option that leaves out a pooler, which masked language models lack, if the model has it."""
    if kind != "AutoModel":
        return {}
    from transformers import MODEL_MAPPING, AutoConfig

    try:
        with offline():
            config = AutoConfig.from_pretrained(where, local_files_only=True, **NO_CODE)
        taken = inspect.signature(MODEL_MAPPING[type(config)].__init__).parameters
    except Exception:  # opening the model reports the error
        return {}
    return {"add_pooling_layer": False} if "add_pooling_layer" in taken else {}


class _ClipFeatures(nn.Module):
    """A CLIP whose features are tensors, as torchmetrics reads them and ``transformers`` 5 returns them no more."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model, self.config = model, model.config

    def get_image_features(self, *given: Tensor) -> Tensor:
        """Projected features, (n, d)."""
        return _tensor(self.model.get_image_features(*given))

    def get_text_features(self, *given: Tensor) -> Tensor:
        """Projected features, (n, d)."""
        return _tensor(self.model.get_text_features(*given))


def _tensor(found: Any) -> Tensor:
    pooled: Tensor = found if isinstance(found, Tensor) else found.pooler_output
    return pooled


def _processor(folder: Any, who: str) -> Any:
    from transformers import CLIPProcessor

    try:
        with offline():
            return CLIPProcessor.from_pretrained(folder, local_files_only=True, **NO_CODE)
    except Exception as error:  # a hostile configuration raises errors of many types
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"{folder} has no processor of images and texts that loads for {who} ({reason})") from None
