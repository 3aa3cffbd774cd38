"""Convert a given object to a checkpoint: content becomes a file named by its digest."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from evalsvc.core.digests import digest_path
from evalsvc.core.errors import InputError
from evalsvc.core.files.atomic_files import atomic_write, put
from evalsvc.core.files.file_modes import make_folder
from evalsvc.inputs.image_arrays import ImageArray
from evalsvc.inputs.videos.arrays import VideoArray
from evalsvc.inputs.weight_files import WEIGHTS_FILES
from evalsvc.metrics.lazy_torch import torch
from evalsvc.plugins.interfaces import Modality
from evalsvc.plugins.registry import Plugin
from evalsvc.plugins.samples import Images, SampleRequest, Samples, Texts, Videos

if TYPE_CHECKING:
    from evalsvc.integrations.python.in_memory import SampleFunction

Given: TypeAlias = (
    "str | Path | np.ndarray | torch.Tensor | Images | Videos | Texts | Sequence[str] | torch.nn.Module "
    "| Callable[[SampleRequest], Samples]"
)


@dataclass(frozen=True)
class Prepared:
    """Where a checkpoint lies, and the generator that loads it; ``plugin`` where it exists in this process only."""

    path: str
    generator: str
    model: str = ""
    step: int | None = None
    plugin: Plugin | None = None
    device: str = ""


def prepare(given: Any, generator: str | None, modality: Modality, uploads: Path) -> Prepared:
    """Prepare anything that can be scored; content that exists in memory only is written under ``uploads``.

    Raises:
        InputError: it cannot be scored, or the generator is missing or superfluous.
    """
    if isinstance(given, str | Path):
        return Prepared(str(given), generator or _samples_at(str(given)))
    if generator is not None:
        raise InputError(f"generator={generator!r} loads a path, but {type(given).__name__} was given: leave it out")
    if isinstance(given, torch.nn.Module):
        return _module(given, modality, uploads)
    if isinstance(given, Images | Videos | np.ndarray | torch.Tensor):
        return _arrays(given, uploads)
    if isinstance(given, Texts) or (isinstance(given, Sequence) and all(isinstance(each, str) for each in given)):
        return _texts(given.items if isinstance(given, Texts) else given, uploads)
    sample = given if callable(given) else getattr(given, "sample", None)
    if callable(sample):
        return _callable(sample, modality, uploads)
    raise InputError(
        f"cannot score {type(given).__name__}: pass a path, an array of images or videos, a list of texts, a "
        "torch.nn.Module, or a function of a SampleRequest that returns samples"
    )


def _samples_at(path: str) -> str:
    if Path(path).suffix in WEIGHTS_FILES or ":" in path:
        raise InputError(f"cannot tell what loads {path}: pass generator=NAME ('evalsvc plugins list')")
    return "samples"


def _arrays(given: Images | Videos | np.ndarray | torch.Tensor, uploads: Path) -> Prepared:
    pixels = given.pixels if isinstance(given, Images | Videos) else given
    array = pixels.detach().cpu().numpy() if isinstance(pixels, torch.Tensor) else pixels
    if np.issubdtype(array.dtype, np.floating):
        low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
        if not (low >= 0 and high <= 1):
            raise InputError(f"float images must be in [0, 1], but these are in [{low:.4g}, {high:.4g}]: scale them")
        array = np.round(array * 255).astype(np.uint8)
    (VideoArray if array.ndim == 5 else ImageArray)(Path("the array"), array)
    path = _kept(uploads, "samples.npy", lambda file: _save_array(file, np.ascontiguousarray(array)))
    return Prepared(str(path), "samples", "samples", 0)


def _texts(texts: Sequence[str], uploads: Path) -> Prepared:
    if not texts:
        raise InputError("no texts were given: pass at least one")
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    return Prepared(str(_kept(uploads, "samples.jsonl", lambda file: file.write_text(lines))), "samples", "samples", 0)


def _module(module: torch.nn.Module, modality: Modality, uploads: Path) -> Prepared:
    from safetensors.torch import save_file

    from evalsvc.integrations.python.in_memory import module_plugin

    tensors = {**dict(module.named_buffers()), **module.state_dict()}
    held = {name: value for name, value in tensors.items() if isinstance(value, torch.Tensor)}
    if not held:
        raise InputError(f"{type(module).__name__} has no parameters to recognize it by: pass a function instead")
    copies = {name: value.detach().cpu().clone().contiguous() for name, value in sorted(held.items())}
    path = _kept(uploads, "module.safetensors", lambda file: save_file(copies, file))
    family = type(module).__name__.lower()
    device = str(next(iter(held.values())).device)
    return Prepared(str(path), "module", family, 0, module_plugin(module, family, modality), device)


def _callable(function: SampleFunction, modality: Modality, uploads: Path) -> Prepared:
    from evalsvc.integrations.python.in_memory import ANEW, callable_plugin, qualified

    note = json.dumps({"callable": qualified(function), "run": uuid.uuid4().hex, "note": ANEW})
    path = _kept(uploads, "callable.json", lambda file: file.write_text(note))
    name = getattr(function, "__name__", "callable")
    family = name if name.isidentifier() else "callable"
    return Prepared(str(path), "callable", family, 0, callable_plugin(function, family, modality))


def _save_array(file: Path, array: np.ndarray) -> None:
    with file.open("wb") as target:
        np.save(target, array, allow_pickle=False)


def _kept(uploads: Path, name: str, write: Callable[[Path], Any]) -> Path:
    """Write a file to the folder of its digest, once. Sweeping removes it with other uploads that nothing uses."""
    with atomic_write(uploads / name) as temporary:
        write(temporary)
        target = uploads / digest_path(temporary) / name
        if not target.is_file():
            make_folder(target.parent)
            put(temporary, target)
    return target
