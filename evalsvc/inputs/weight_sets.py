"""Selection of the weights in a ``transformers`` folder: one complete, unambiguous set of safetensors."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError

from evalsvc.core.errors import CheckpointError, InputError, first_line
from evalsvc.core.files.json_files import read_json
from evalsvc.core.files.regular_files import open_regular
from evalsvc.core.files.safetensors_files import open_safetensors

ADAPTER = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
_ANY = re.compile(r"model.*\.safetensors(\.index.*\.json)?|pytorch_model.*\.bin")
"""Names of weights of any variant and format that ``transformers`` writes."""
MODEL, DIFFUSION_MODEL = "model", "diffusion_pytorch_model"
"""First parts of the names of weights that ``transformers`` and ``diffusers`` read."""


@dataclass(frozen=True)
class WeightSet:
    """The file that ``transformers`` opens, which may be an index, and the files with the tensors."""

    name: str
    files: tuple[Path, ...]

    def __str__(self) -> str:
        return self.name if len(self.files) == 1 else f"{self.name} ({len(self.files)} shards)"


def weight_set(folder: Path, who: str, *, judged: bool = False, stem: str = MODEL) -> WeightSet:
    """The only set of weights in a folder; ``who`` (``generator 'causal-lm'``) is named in errors.

    Other variants and formats beside it (``model.fp16.safetensors``, ``pytorch_model.bin``) are never read. In a
    checkpoint that is ``judged`` they still count as a second set, unless the hub serves both as one revision. ``stem``
    begins the names of the weights, before ``.safetensors`` or ``.safetensors.index.json``.

    Raises:
        InputError: there is no set, more than one, or an adapter, which ``transformers`` applies only if ``peft`` is
            installed.
        CheckpointError: a file is missing or incomplete.
    """
    refuse_adapter(folder, who)
    names = [path.name for path in sorted(folder.glob("*")) if path.is_file()]
    named = _named_by_config(folder)
    sets = [name for name in names if name in (f"{stem}.safetensors", f"{stem}.safetensors.index.json", named)]
    if not sets or "config.json" not in names:
        raise InputError(_nothing(folder, who, names, f"{stem}.safetensors"))
    shards = {file for name in sets if name.endswith(".index.json") for file in shards_of(folder / name)}
    if judged and folder.parent.name != "snapshots":
        sets += [name for name in names if _ANY.fullmatch(name) and name not in {*sets, *shards}]
    if len(sets) > 1:
        raise InputError(
            f"{folder} contains two sets of weights for {who}, {sets[0]} and {sets[1]}: keep one of them and "
            "move the other away"
        )
    chosen = WeightSet(sets[0], tuple(folder / name for name in sorted(shards)) or (folder / sets[0],))
    _check_whole(chosen)
    return chosen


def adapter_weights(folder: Path, who: str) -> WeightSet:
    """The weights of an adapter of ``peft``; ``who`` is named in errors.

    Raises:
        InputError: the folder also contains a model, or the weights are missing or a pickle.
        CheckpointError: the file is incomplete.
    """
    if (folder / "config.json").is_file() and any(folder.glob("model*.safetensors")):
        raise InputError(f"{folder} contains both a model and an adapter for {who}: move one of them away")
    config, weights, pickled = (folder / name for name in ADAPTER)
    for path in (config, weights):
        if not path.is_file():
            pickle = f" ({pickled.name} is a pickle, which is never read)" if pickled.is_file() else ""
            raise InputError(
                f"{folder} is an adapter without {path.name}{pickle}: save it again for {who} "
                "(peft: model.save_pretrained(FOLDER))"
            )
    chosen = WeightSet(weights.name, (weights,))
    _check_whole(chosen)
    return chosen


def is_adapter(folder: Path) -> bool:
    """Whether a folder contains a file of an adapter."""
    return any((folder / name).is_file() for name in ADAPTER)


def is_lfs_pointer(path: Path) -> bool:
    """Whether a file is the placeholder of a file that Git LFS has not fetched."""
    start = b"version https://git-lfs"
    try:
        with open_regular(path) as file:
            return file.read(len(start)) == start
    except OSError:
        return False


def refuse_adapter(folder: Path, who: str) -> None:
    """Raise an :class:`InputError` if a folder contains an adapter, with or without its base."""
    for name in ADAPTER:
        if (folder / name).is_file():
            raise InputError(
                f"{folder} contains an adapter ({name}), which {who} does not support: merge it into its base "
                "first (peft: model.merge_and_unload().save_pretrained(FOLDER)) and pass the merged folder"
            )


def _nothing(folder: Path, who: str, names: list[str], wanted: str) -> str:
    held = [name for name in names if name.endswith(".safetensors")]
    if "config.json" in names and len(held) > 1 and all("-of-" in name for name in held):
        return (
            f"{folder} contains {len(held)} shards ({held[0]}) for {who} but no {wanted}.index.json: restore the index"
        )
    if "config.json" in names and held:
        return f"{folder} contains {held[0]} but no {wanted}, which {who} reads: rename it"
    if ggufs := [name for name in names if name.endswith(".gguf")]:
        return f"{folder} contains {' and '.join(ggufs[:2])}: pass one .gguf file to {who} instead of the folder"
    return (
        f"{folder} contains no model for {who}: use a folder with config.json and *.safetensors, as "
        "written by save_pretrained"
    )


def _named_by_config(folder: Path) -> str:
    """The weights that a ``config.json`` names, if any; the loader reports a damaged file."""
    try:
        config = read_json(folder / "config.json")
    except (OSError, ValueError):
        return ""
    return str(config.get("transformers_weights") or "") if isinstance(config, dict) else ""


def shards_of(index: Path) -> set[str]:
    """The names of the files beside an index that it names.

    Raises:
        CheckpointError: the index is damaged, or names a file that is missing or elsewhere.
    """
    try:
        names = set(read_json(index)["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index} is not a complete index of weights ({first_line(error, 160)})") from None
    for name in sorted(names):
        if not isinstance(name, str) or Path(name).name != name:
            raise CheckpointError(f"{index} names {name!r}, which is not a file beside it")
        if not (index.parent / name).is_file():
            raise CheckpointError(f"{index.parent / name} is missing, but {index.name} names it: copy it again")
    return names


def _check_whole(weights: WeightSet) -> None:
    """Open each file, which reads its header and checks its size; a tensor in two files raises an error."""
    seen: dict[str, Path] = {}
    for path in weights.files:
        try:
            with open_safetensors(path) as file:
                names = list(file.keys())
        except (SafetensorError, OSError) as error:
            if is_lfs_pointer(path):
                raise CheckpointError(f"{path} is a Git LFS pointer: run 'git lfs pull'") from None
            raise CheckpointError(
                f"{path} is not a complete safetensors file ({first_line(error, 160)}): copy it again"
            ) from None
        for name in names:
            if seen.setdefault(name, path) != path:
                raise CheckpointError(f"{path} and {seen[name].name} both contain {name}: keep one of them")
