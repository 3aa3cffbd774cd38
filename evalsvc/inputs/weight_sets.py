"""Which weights of a ``transformers`` folder are loaded: one set of safetensors, named, whole, and the only one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError

from evalsvc.core.errors import CheckpointError, InputError, first_line
from evalsvc.core.files.json_files import read_json
from evalsvc.core.files.regular_files import open_regular
from evalsvc.core.files.safetensors_files import open_safetensors

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
ADAPTER = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
_ANY = re.compile(r"model.*\.safetensors(\.index.*\.json)?|pytorch_model.*\.bin")
"""Names of weights, of whatever variant and format, that ``transformers`` writes."""


@dataclass(frozen=True)
class WeightSet:
    """The file that ``transformers`` opens, which may be an index, and those that hold the tensors."""

    name: str
    files: tuple[Path, ...]

    def __str__(self) -> str:
        return self.name if len(self.files) == 1 else f"{self.name} ({len(self.files)} shards)"


def weight_set(folder: Path, who: str, *, judged: bool = False) -> WeightSet:
    """The one set of weights in a folder; ``who`` (``generator 'causal-lm'``) is named in errors.

    Of other variants and formats beside it (``model.fp16.safetensors``, ``pytorch_model.bin``) none is ever read. In a
    checkpoint that is ``judged`` they are another set all the same, unless a hub serves both as one revision.

    Raises:
        InputError: there is none, or more than one, or an adapter, which would change the weights or not depending on
            whether ``peft`` is installed.
        CheckpointError: a file is missing or not whole.
    """
    refuse_adapter(folder, who)
    names = [path.name for path in sorted(folder.glob("*")) if path.is_file()]
    named = _named_by_config(folder)
    sets = [name for name in names if name in (SINGLE, INDEX, named)]
    if not sets or "config.json" not in names:
        raise InputError(_nothing(folder, who, names))
    shards = {file for name in sets if name.endswith(".index.json") for file in _shards(folder / name)}
    if judged and folder.parent.name != "snapshots":
        sets += [name for name in names if _ANY.fullmatch(name) and name not in {*sets, *shards}]
    if len(sets) > 1:
        raise InputError(
            f"{folder} holds two sets of weights for {who}, {sets[0]} and {sets[1]}: keep the one that is meant, and "
            "move the other away"
        )
    chosen = WeightSet(sets[0], tuple(folder / name for name in sorted(shards)) or (folder / sets[0],))
    _check_whole(chosen)
    return chosen


def is_lfs_pointer(path: Path) -> bool:
    """Whether a file is what Git leaves in place of one that Git LFS has not fetched."""
    start = b"version https://git-lfs"
    try:
        with open_regular(path) as file:
            return file.read(len(start)) == start
    except OSError:
        return False


def refuse_adapter(folder: Path, who: str) -> None:
    """Raise an :class:`InputError` if a folder holds an adapter, alone or beside a base."""
    for name in ADAPTER:
        if (folder / name).is_file():
            raise InputError(
                f"{folder} holds an adapter ({name}), which {who} does not support: merge it into its base first "
                "(peft: model.merge_and_unload().save_pretrained(FOLDER)) and give the merged folder"
            )


def _nothing(folder: Path, who: str, names: list[str]) -> str:
    held = [name for name in names if name.endswith(".safetensors")]
    if "config.json" in names and len(held) > 1 and all("-of-" in name for name in held):
        return f"{folder} holds {len(held)} shards ({held[0]}) for {who} and no {INDEX}: restore the index"
    if "config.json" in names and held:
        return f"{folder} holds {held[0]} and no {SINGLE}, which {who} reads: rename it"
    if ggufs := [name for name in names if name.endswith(".gguf")]:
        return f"{folder} holds {' and '.join(ggufs[:2])}: give {who} one .gguf file itself, not its folder"
    return (
        f"{folder} holds no model for {who}: a folder with config.json and *.safetensors is expected, as "
        "save_pretrained writes it"
    )


def _named_by_config(folder: Path) -> str:
    """The weights that a ``config.json`` names, where it does; a damaged one is told of by whoever loads it."""
    try:
        config = read_json(folder / "config.json")
    except (OSError, ValueError):
        return ""
    return str(config.get("transformers_weights") or "") if isinstance(config, dict) else ""


def _shards(index: Path) -> set[str]:
    try:
        found = set(read_json(index)["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index} is not a whole index of weights ({first_line(error, 160)})") from None
    for name in sorted(found):
        if not isinstance(name, str) or Path(name).name != name:
            raise CheckpointError(f"{index} names {name!r}, which is no file beside it")
        if not (index.parent / name).is_file():
            raise CheckpointError(f"{index.parent / name} is missing, and {index.name} names it: copy it again")
    return found


def _check_whole(weights: WeightSet) -> None:
    """Open each file, which reads its header and compares its size; a tensor that two files hold is an error."""
    seen: dict[str, Path] = {}
    for path in weights.files:
        try:
            with open_safetensors(path) as file:
                names = list(file.keys())
        except (SafetensorError, OSError) as error:
            if is_lfs_pointer(path):
                raise CheckpointError(f"{path} is a pointer of Git LFS: run 'git lfs pull'") from None
            raise CheckpointError(
                f"{path} is not a whole safetensors file ({first_line(error, 160)}): copy it again"
            ) from None
        for name in names:
            if seen.setdefault(name, path) != path:
                raise CheckpointError(f"{path} and {seen[name].name} both hold {name}: keep the one that is meant")
