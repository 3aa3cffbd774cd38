"""Classifiers of ``transformers``: the probability of each class of a text, an image or a sound."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor, nn

from evalsvc.builtin.extractors.audio import waves_at
from evalsvc.builtin.pretrained import (
    NO_CODE,
    offline,
    open_pretrained,
    open_tokenizer,
    pretrained_folder,
    require_transformers,
)
from evalsvc.core.digests import digest_json, digest_path
from evalsvc.core.errors import InputError, first_line
from evalsvc.metrics.devices import staged
from evalsvc.plugins.interfaces import Modality
from evalsvc.plugins.samples import Images, MixedImages, Samples, Texts

Inputs: TypeAlias = Mapping[str, Tensor]
"""Inputs of the network for one window of a sample, each of shape (1, ...)."""
Windows: TypeAlias = Callable[[Samples], list[list[Inputs]]]
"""The windows of each sample; a sample without any cannot be classified."""
BATCH = 32
LARGEST_SIDE, NARROWEST, LONGEST_SOUND = 4096, 100, 2**22
"""Pixels to which a side may be scaled; the largest ratio of sides; samples to which a sound may be padded."""
_AUTO: dict[Modality, tuple[str, str, str]] = {
    "text": ("AutoModelForSequenceClassification", "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES", "text"),
    "image": ("AutoModelForImageClassification", "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES", "clip"),
    "audio": ("AutoModelForAudioClassification", "MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES", "audio"),
}
"""Class of ``transformers``, the name of its table of architectures, and our extra."""
_PREPARATION = ("*processor*.json", "tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "*.model")
"""Files that describe how samples become inputs."""


@dataclass(frozen=True)
class Classifier:
    """An opened classifier: its classes, and everything that can change a probability.

    ``labels`` are the names of the classes in the order of the logits. Classes exclude each other (softmax) unless
    the configuration says ``multi_label_classification`` or has one class (sigmoid).
    """

    modality: Modality
    labels: tuple[str, ...]
    exclusive: bool
    weights: str
    facts: Mapping[str, str]
    _network: Any
    _windows: Windows
    _device: torch.device

    @torch.inference_mode()
    def probabilities(self, samples: Samples) -> list[Float[Tensor, "w c"]]:
        """Probabilities of the classes in each window of each sample, float64.

        Only inputs of one shape share a batch, so that nothing is padded.

        Raises:
            InputError: the samples are of another modality.
        """
        windows = self._windows(samples)
        every = [inputs for several in windows for inputs in several]
        found = torch.empty(len(every), len(self.labels), dtype=torch.float64)
        batches = list(self._batches(every))
        logits = [self._run([every[i] for i in places]) for places in batches]
        for places, each in zip(batches, logits, strict=True):  # which waits for the device after all are launched
            wide = each.cpu().double()
            found[places] = wide.softmax(-1) if self.exclusive else wide.sigmoid()
        return list(torch.split(found, [len(several) for several in windows]))

    def _batches(self, every: Sequence[Inputs]) -> Iterator[list[int]]:
        by_shape: dict[Any, list[int]] = {}
        for place, inputs in enumerate(every):
            by_shape.setdefault(tuple((name, each.shape) for name, each in inputs.items()), []).append(place)
        for places in by_shape.values():
            yield from (places[start : start + self._size] for start in range(0, len(places), self._size))

    @property
    def _size(self) -> int:
        """Inputs of a batch: one sound, and one text for causal models without a padding token, which refuse more."""
        unpadded = self.modality == "text" and getattr(self._network.config, "pad_token_id", None) is None
        return 1 if unpadded or self.modality == "audio" else BATCH

    def _run(self, batch: Sequence[Inputs]) -> Float[Tensor, "k c"]:
        joined = {name: staged(torch.cat([each[name] for each in batch]), self._device) for name in batch[0]}
        logits: Tensor = self._network(**joined).logits
        return logits


def open_classifier(model: str, device: torch.device, who: str) -> Classifier:
    """The classifier in a folder, or of a hub id; its configuration names the modality.

    Raises:
        InputError: it is not a classifier, lacks files, or they do not load.
    """
    require_transformers(who, "text")
    folder = pretrained_folder(model, who)
    modality = _modality(folder, who)
    kind, _, extra = _AUTO[modality]
    network, weights, folder = open_pretrained(kind, str(folder), who, extra)
    config = network.config
    if config.problem_type == "regression":
        raise InputError(f"{folder} is a regression, not a classifier: {who} needs a model with classes")
    exclusive = config.problem_type != "multi_label_classification" and config.num_labels > 1
    labels = tuple(str(config.id2label.get(i, i)) for i in range(config.num_labels))
    windows, preparation = _READERS[modality](network, folder, who)
    facts = {
        "activation": "softmax" if exclusive else "sigmoid",
        "preparation": preparation,
        "files": digest_preparation(folder),
        "transformers": importlib.metadata.version("transformers"),
    }
    return Classifier(modality, labels, exclusive, weights, facts, network.to(device), windows, device)


def digest_preparation(folder: Path) -> str:
    """Digest of the files of a folder that describe how samples become inputs."""
    files = sorted({path for pattern in _PREPARATION for path in folder.glob(pattern) if path.is_file()})
    return digest_json([[path.name, digest_path(path)] for path in files])


def _modality(folder: Path, who: str) -> Modality:
    from transformers.models.auto import modeling_auto

    try:
        names = json.loads((folder / "config.json").read_bytes())["architectures"]
        (architecture,) = names
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise InputError(
            f"{folder} has no config.json with one entry in 'architectures', which {who} needs: save the model by "
            "save_pretrained"
        ) from None
    for modality, (_, table, _) in _AUTO.items():
        if architecture in getattr(modeling_auto, table).values():
            return modality
    raise InputError(
        f"{folder} has the architecture {architecture!r:.80}, which does not classify texts, images or sounds: {who} "
        "needs a model such as BertForSequenceClassification"
    )


# --- inputs by modality ---


def _of_texts(network: Any, folder: Path, who: str) -> tuple[Windows, str]:
    tokenizer = open_tokenizer(folder, who)
    longest, special = _longest(tokenizer, network), tokenizer.num_special_tokens_to_add()
    if longest is not None and longest <= special:
        raise InputError(f"{folder} reads at most {longest} tokens, {special} of them special: restore its tokenizer")
    entries = network.get_input_embeddings().num_embeddings
    if (last := max(tokenizer.get_vocab().values())) >= entries:
        raise InputError(f"{folder} embeds {entries} tokens, but its tokenizer has token {last}: restore its tokenizer")
    cut = {} if longest is None else {"truncation": True, "max_length": longest, "return_overflowing_tokens": True}

    def windows(samples: Samples) -> list[list[Inputs]]:
        if not isinstance(samples, Texts):
            raise InputError(f"{who} has a model of texts: score text samples")
        texts = (text.encode(errors="replace").decode() for text in samples.items)  # half of a surrogate pair is "?"
        return [_rows(tokenizer(text, **cut), tokenizer.model_input_names) for text in texts]

    return windows, f"consecutive windows of {longest or 'all'} tokens"


def _rows(encoded: Mapping[str, Any], names: Sequence[str]) -> list[Inputs]:
    """Each window of an encoded text that has tokens; one without a limit is not divided."""
    columns = {name: encoded[name] for name in names if name in encoded}
    if "overflow_to_sample_mapping" not in encoded:
        columns = {name: [column] for name, column in columns.items()}
    windows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    return [{name: torch.tensor([row]) for name, row in each.items()} for each in windows if each["input_ids"]]


def _longest(tokenizer: Any, network: Any) -> int | None:
    """Number of tokens that the network reads at once, special tokens included; ``None`` if it has no limit."""
    tables = [
        table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1)
        for name, table in network.named_modules()
        if name.endswith("position_embeddings") and isinstance(table, nn.Embedding)
    ]
    limits: list[Any] = [tokenizer.model_max_length, *tables]
    if not tables:
        limits.append(getattr(network.config, "max_position_embeddings", None))
    known = [int(each) for each in limits if isinstance(each, int) and 0 < each < 2**31]
    return min(known, default=None)


def _of_images(network: Any, folder: Path, who: str) -> tuple[Windows, str]:
    processor = image_processor(folder, who)

    def windows(samples: Samples) -> list[list[Inputs]]:
        if not isinstance(samples, Images | MixedImages):
            raise InputError(f"{who} has a model of images: score image samples")
        return [prepared(each) for each in samples.items]

    def prepared(pixels: Tensor) -> list[Inputs]:
        if max(pixels.shape[1:]) > NARROWEST * min(pixels.shape[1:]):  # the short side may be scaled up to a fixed size
            return []
        return [dict(processor(images=picture(pixels), return_tensors="pt"))]

    return windows, f"{type(processor).__name__}, Pillow {importlib.metadata.version('pillow')}"


def image_processor(folder: Path, who: str) -> Any:
    """The image processor of a folder, which computes by Pillow.

    Raises:
        InputError: there is none, it does not load, or it scales images to more than 4096 pixels.
    """
    from transformers import AutoImageProcessor

    return _processor(partial(AutoImageProcessor.from_pretrained, backend="pil"), folder, who, LARGEST_SIDE)


def picture(pixels: UInt8[Tensor, "c h w"]) -> Image.Image:
    """An image of one or three channels as an RGB image of Pillow."""
    return Image.fromarray(pixels.expand(3, -1, -1).permute(1, 2, 0).cpu().numpy())


def _of_sounds(network: Any, folder: Path, who: str) -> tuple[Windows, str]:
    from transformers import AutoFeatureExtractor

    processor = _processor(AutoFeatureExtractor.from_pretrained, folder, who, LONGEST_SOUND)
    rate = getattr(processor, "sampling_rate", None)
    if not isinstance(rate, int) or not 0 < rate < 2**20:
        raise InputError(f"{folder} has no valid sampling_rate in preprocessor_config.json, which {who} needs: add it")

    def windows(samples: Samples) -> list[list[Inputs]]:
        return [prepared(wave) for wave in waves_at(samples, rate, "classifier")]

    def prepared(wave: Tensor) -> list[Inputs]:
        return [dict(processor(wave.cpu().numpy(), sampling_rate=rate, return_tensors="pt"))] if len(wave) else []

    return windows, f"{rate} Hz by soxr HQ, {type(processor).__name__}"


def _processor(load: Callable[..., Any], folder: Path, who: str, most: int) -> Any:
    """The preprocessor of a folder; one with a setting over ``most`` would fill the memory, and is refused."""
    try:
        with offline():
            processor = load(folder, local_files_only=True, **NO_CODE)
        settings = processor.to_dict()
    except Exception as error:  # transformers raises errors of many types for hostile files
        raise InputError(f"{folder} has no preprocessor that loads for {who} ({first_line(error, 160)})") from None
    for name, value in settings.items():
        numbers = value.values() if isinstance(value, Mapping) else [value]
        if any(isinstance(each, int | float) and each > most for each in numbers):
            raise InputError(
                f"{folder} prepares samples with {name}={value!r:.80}, which is too large: restore the file"
            )
    return processor


_READERS: dict[Modality, Callable[[Any, Path, str], tuple[Windows, str]]] = {
    "text": _of_texts,
    "image": _of_images,
    "audio": _of_sounds,
}
