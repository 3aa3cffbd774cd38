"""Model and step of a checkpoint, read from where it lies: the layouts of trainers and of the Hugging Face hub."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from evalsvc.core.errors import InputError
from evalsvc.inputs.checkpoint_folders import endpoint_name
from evalsvc.inputs.checkpoint_steps import SUFFIX, find_step, has_loose_number, read_number, without_step, words_of

HUB_FILES = ("config.json", "model_index.json")
"""A folder that holds one of these has the layout of the hub: ``transformers`` or ``diffusers`` load it."""
CONTAINERS = {"checkpoints", "checkpoint", "ckpts", "ckpt", "files", "models", "saved_models", "snapshots", "weights"}
"""Folders between the checkpoints and the folder of their model."""
_LOGS = {"lightning_logs", "tb_logs", "csv_logs", "logs", "runs"}
_GENERIC = (
    r"adapter|averaged|best|checkpoints?|ckpts?|consolidated|diffusion|ema|epoch|final|full|g|gen|generator|global|half|hf"
    r"|inference|iter|last|latest|model|mp|net|network|optim|params|pruned|pytorch|raw|snapshot|states?|steps?|test|train"
    r"|val|valid|weights"
)
"""Words that name no model."""
_PARTS = rf"{_GENERIC}|default|fake|generated|images|rank|samples|transformer|unet|vae"
"""Words that name parts of a checkpoint, whose step stands in the name of the folder around them."""


class UnknownStepError(InputError):
    """No step is given, and the path states none for sure."""


class CheckpointName(NamedTuple):
    """What people call a checkpoint: ``model@step``."""

    model: str
    step: int


@dataclass(frozen=True)
class Naming:
    """How the names of checkpoints are read. What is given holds; else a pattern says it; else the path is read.

    Of a pattern (a regular expression) the group named ``step`` or ``model`` is taken, else the first group, else the
    whole match. A step is searched for in the name, then in the path; a model in the path, then in the absolute path.

    Raises:
        InputError: a pattern is invalid, or competes with what is given.
    """

    model: str = ""
    step: int | None = None
    model_pattern: str = ""
    step_pattern: str = ""

    def __post_init__(self) -> None:
        for option, given, pattern in (
            ("step", self.step is not None, self.step_pattern),
            ("model", bool(self.model), self.model_pattern),
        ):
            if given and pattern:
                raise InputError(f"--{option} and --{option}-pattern exclude each other: give one of them")
            try:
                re.compile(pattern)
            except (re.error, RecursionError, OverflowError) as error:
                raise InputError(f"--{option}-pattern {pattern!r} is not a regular expression ({error})") from None

    def read(self, path: Path) -> CheckpointName:
        """Model and step of the checkpoint at ``path``; an endpoint is called by its own name and has no step.

        Raises:
            UnknownStepError: the step is given nowhere and the path does not state it for sure.
            InputError: a pattern does not match.
        """
        if (endpoint := endpoint_name(path)) is not None:
            return CheckpointName(self.model or endpoint, self.step or 0)
        place = _place(path)
        holder, stated = _holder(place)
        step = self.step
        if self.step_pattern:
            text = _search("step", self.step_pattern, path.name, str(path))
            if (step := read_number(text)) is None:
                raise InputError(f"--step-pattern {self.step_pattern!r} finds {text!r} in {path}: that is not a number")
        if step is None:
            step = stated
        if step is None and holder is None and _is_release(place):
            step = 0
        if step is None:
            raise UnknownStepError(
                f"cannot infer the step from {path}: pass --step-pattern REGEX, or --step for one checkpoint"
            )
        if self.model_pattern:
            return CheckpointName(_search("model", self.model_pattern, str(path), str(place)), step)
        return CheckpointName(self.model or _model(place, holder), step)


class Labels:
    """The labels that one command has met. Each belongs to one content."""

    def __init__(self) -> None:
        self._seen: dict[CheckpointName, tuple[str, str]] = {}

    def claim(self, name: CheckpointName, digest: str, place: str) -> None:
        """Note whose label this is. A file that was written anew keeps its own.

        Raises:
            InputError: another file of other content has it.
        """
        known, where = self._seen.setdefault(name, (digest, place))
        if known != digest and where != place:
            raise InputError(
                f"{where} and {place} are both {name.model}@{name.step} but differ in content: "
                "tell them apart by --step-pattern or --model-pattern"
            )
        self._seen[name] = digest, place


def _search(what: str, pattern: str, *texts: str) -> str:
    for text in texts:
        if match := re.search(pattern, text):
            groups = match.groupdict()
            return groups.get(what) or next((group for group in match.groups() if group), match[0])
    raise InputError(f"--{what}-pattern {pattern!r} does not match {texts[-1]}: change it, or pass --{what}")


def _place(path: Path) -> Path:
    """The absolute path. Its last link is not followed: those of the hub's cache lead to files named by digest."""
    return path.resolve() if path.name == ".." else path.absolute().parent.resolve() / path.absolute().name


def _holder(place: Path) -> tuple[Path | None, int | None]:
    """The path itself, or a folder around it, whose name states the step; and the step."""
    if stated := find_step(place.name):
        return place, stated.step
    if has_loose_number(place.name) or (_is_folder(place) and not _is_only(place.name, _PARTS)):
        return None, None
    for folder in place.parents[:2]:
        if (stated := find_step(folder.name)) and stated.keyed:
            return folder, stated.step
        if not _is_only(folder.name, _PARTS):
            break
    return None, None


def _model(place: Path, holder: Path | None) -> str:
    """The name of a folder of weights or samples, without its step; else that of the folder around the checkpoint."""
    if holder is None and place.suffix.lower() == ".gguf":
        return SUFFIX.sub("", place.name)
    own = place if holder is None else holder
    name = own.name if holder is None else without_step(own.name)
    if (own != place or _is_folder(place)) and not _is_only(name, _GENERIC):
        return _of_hub(own) or name
    folder = own.parent
    while folder.name.lower() in CONTAINERS and folder.parent.name:
        folder = folder.parent
    return _of_hub(folder) or _of_lightning(folder) or folder.name


def _of_hub(folder: Path) -> str:
    """``models--org--name/snapshots/REVISION``, as the hub's cache lays models out."""
    repository = folder.parent.parent.name
    is_snapshot = folder.parent.name == "snapshots" and repository.startswith("models--")
    return repository.rpartition("--")[2] if is_snapshot else ""


def _of_lightning(folder: Path) -> str:
    """``version_3`` of ``lightning_logs``; below an experiment with a name of its own, that too."""
    if not re.fullmatch(r"version_\d+", folder.name):
        return ""
    return folder.name if folder.parent.name in _LOGS else f"{folder.parent.name}-{folder.name}".lstrip("-")


def _is_release(place: Path) -> bool:
    """Whether this is a whole model in a format of the hub, which has no step unless its name states one."""
    return place.suffix.lower() == ".gguf" or (
        not _is_only(place.name, _GENERIC) and any((place / file).is_file() for file in HUB_FILES)
    )


def _is_folder(place: Path) -> bool:
    return place.is_dir() or (not place.exists() and not SUFFIX.search(place.name))


def _is_only(name: str, known: str) -> bool:
    """Whether a name consists of these words, and of numbers that a word explains."""
    return not has_loose_number(name) and all(re.fullmatch(rf"(?:{known})\d*", word) for word in words_of(name))
