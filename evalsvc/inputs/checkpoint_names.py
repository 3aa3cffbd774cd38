"""Model and step of a checkpoint, inferred from its path: layouts of trainers and of the Hugging Face hub."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from evalsvc.core.errors import InputError
from evalsvc.inputs.checkpoint_folders import endpoint_name
from evalsvc.inputs.checkpoint_steps import SUFFIX, find_step, has_loose_number, read_number, without_step, words_of

HUB_FILES = ("config.json", "model_index.json")
"""A folder with one of these files has the hub layout: ``transformers`` or ``diffusers`` can load it."""
CONTAINERS = {"checkpoints", "checkpoint", "ckpts", "ckpt", "files", "models", "saved_models", "snapshots", "weights"}
"""Names of folders between the checkpoints and the folder of their model."""
_LOGS = {"lightning_logs", "tb_logs", "csv_logs", "logs", "runs"}
_GENERIC = (
    r"adapter|averaged|best|checkpoints?|ckpts?|consolidated|diffusion|ema|epoch|final|fsdp|full|g|gen|generator|global|half|hf"
    r"|inference|iter|last|latest|model|mp|net|network|optim|params|pruned|pytorch|raw|snapshot|states?|steps?|test|train"
    r"|val|valid|weights"
)
"""Words that do not identify a model."""
_PARTS = rf"{_GENERIC}|default|fake|generated|images|rank|samples|transformer|unet|vae"
"""Words for parts of a checkpoint, whose step is in the name of a parent folder."""


class UnknownStepError(InputError):
    """The step is not given and cannot be inferred from the path with certainty."""


class CheckpointName(NamedTuple):
    """Label of a checkpoint: ``model@step``."""

    model: str
    step: int


@dataclass(frozen=True)
class Naming:
    """Rules for inferring the names of checkpoints. Explicit values come first, then patterns, then the path.

    A pattern is a regular expression; its group named ``step`` or ``model`` is used, else its first group, else the
    whole match. Steps are searched for in the name, then in the path; models in the path, then in the absolute path.

    Raises:
        InputError: a pattern is invalid, or is combined with an explicit value.
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
                raise InputError(f"--{option} and --{option}-pattern exclude each other: pass one of them")
            try:
                re.compile(pattern)
            except (re.error, RecursionError, OverflowError) as error:
                raise InputError(f"--{option}-pattern {pattern!r} is not a regular expression ({error})") from None

    def read(self, path: Path) -> CheckpointName:
        """Model and step of the checkpoint at ``path``; for an endpoint, its name and step 0.

        Raises:
            UnknownStepError: the step is not given and cannot be inferred with certainty.
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
                raise InputError(
                    f"--step-pattern {self.step_pattern!r} matches {text!r} in {path}, which is not a number: change "
                    "the pattern"
                )
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
    """The labels of one command, each of which identifies one content."""

    def __init__(self) -> None:
        self._seen: dict[CheckpointName, tuple[str, str]] = {}

    def claim(self, name: CheckpointName, digest: str, place: str) -> None:
        """Register the label of a checkpoint. A file that was rewritten keeps its label.

        Raises:
            InputError: another file with other content has this label.
        """
        known, where = self._seen.setdefault(name, (digest, place))
        if known != digest and where != place:
            raise InputError(
                f"{where} and {place} are both {name.model}@{name.step} but differ in content: distinguish them "
                "with --step-pattern or --model-pattern"
            )
        self._seen[name] = digest, place


def _search(what: str, pattern: str, *texts: str) -> str:
    for text in texts:
        if match := re.search(pattern, text):
            groups = match.groupdict()
            return groups.get(what) or next((group for group in match.groups() if group), match[0])
    raise InputError(f"--{what}-pattern {pattern!r} does not match {texts[-1]}: change it, or pass --{what}")


def _place(path: Path) -> Path:
    """The absolute path. A symbolic link at its end is kept: in the hub's cache it leads to a file named by digest."""
    return path.resolve() if path.name == ".." else path.absolute().parent.resolve() / path.absolute().name


def _holder(place: Path) -> tuple[Path | None, int | None]:
    """The path itself or a parent folder whose name contains the step; and the step."""
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
    """The name of a folder of weights or samples without its step; else the name of its parent folder."""
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
    """Model name from ``models--org--name/snapshots/REVISION``, the layout of the hub's cache."""
    repository = folder.parent.parent.name
    is_snapshot = folder.parent.name == "snapshots" and repository.startswith("models--")
    return repository.rpartition("--")[2] if is_snapshot else ""


def _of_lightning(folder: Path) -> str:
    """``version_3`` of ``lightning_logs``, prefixed with the name of the experiment, if any."""
    if not re.fullmatch(r"version_\d+", folder.name):
        return ""
    return folder.name if folder.parent.name in _LOGS else f"{folder.parent.name}-{folder.name}".lstrip("-")


def _is_release(place: Path) -> bool:
    """Whether this is a complete model in a hub format, which has no step unless its name contains one."""
    return place.suffix.lower() == ".gguf" or (
        not _is_only(place.name, _GENERIC) and any((place / file).is_file() for file in HUB_FILES)
    )


def _is_folder(place: Path) -> bool:
    return place.is_dir() or (not place.exists() and not SUFFIX.search(place.name))


def _is_only(name: str, known: str) -> bool:
    """Whether a name consists of these words only, and of numbers that belong to a word."""
    return not has_loose_number(name) and all(re.fullmatch(rf"(?:{known})\d*", word) for word in words_of(name))
