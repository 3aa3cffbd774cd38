"""Tensors of a torch file, by torch's weights-only reader. Other objects are skipped, and no code runs."""

from __future__ import annotations

import pickle
import re
import struct
import zipfile
from typing import Any, BinaryIO

import torch
from torch import Tensor
from torch.serialization import safe_globals

from evalsvc.core.errors import RefusedError, first_line
from evalsvc.inputs.ema_shadows import SHADOWS
from evalsvc.inputs.inert_objects import CODE, PLAIN, stand_ins, unpickling_reason
from evalsvc.inputs.state_dicts import NAMED, StateDicts

DEEPEST = 8
"""Maximum nesting depth of dictionaries."""
FIRST_BYTES = (b"P", b"\x80")
"""Magic bytes of a zip archive (torch since 1.6), and of a pickle (earlier versions)."""
NEWER_PICKLE = "Unsupported operand 149"
"""The reader's fault for a frame, with which pickles of protocol 4 and 5 begin."""
UNREADABLE = (
    *(RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, AttributeError, AssertionError),
    *(zipfile.BadZipFile, struct.error),
)
"""Errors that torch and Python's archive reader raise for damaged files."""


def read_state(source: BinaryIO) -> StateDicts:
    """Load the tensors of a weights-only torch file to the CPU. Other objects are ignored and no code runs.

    Raises:
        RefusedError: the file has no tensors, would run code, or is not a torch file.
    """
    state = load_torch(source)
    entries: dict[str, dict[str, Tensor]] = {}
    _collect(state, "", entries, ())
    held = {entry.partition(".")[0] for entry in entries} | entries.get("", {}).keys()
    top = [name for name in state if isinstance(name, str)] if isinstance(state, dict) else []
    others = [name for name in top if name not in held] or ([] if entries else [type(state).__name__])
    if not entries:
        listed = ", ".join(others[:NAMED]) + (f" and {len(others) - NAMED} more" if len(others) > NAMED else "")
        raise RefusedError(f"is not a state_dict of tensors (it contains {listed}): {PLAIN}")
    return StateDicts(entries, tuple(others))


def load_torch(source: BinaryIO) -> Any:
    """The object in a weights-only torch file, on the CPU; everything except tensors and plain containers is inert.

    Raises:
        RefusedError: the file would run code, or is not a torch file.
    """
    if source.read(1) not in FIRST_BYTES:
        raise RefusedError("is not a torch file")
    try:
        with safe_globals([(stand_in, name) for name, stand_in in stand_ins(source).items()]):
            return torch.load(source, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = unpickling_reason(error)
        if reason == NEWER_PICKLE:
            raise RefusedError(f"is pickled by another protocol than that of torch.save: {PLAIN}") from None
        if reason.startswith("Unsupported operand"):
            raise RefusedError(f"is truncated or not a torch file ({reason})") from None
        raise RefusedError(f"{CODE} ({reason})") from None
    except ImportError as error:  # torch would import a module for a rare type, but no file can be opened here
        raise RefusedError(f"contains an object of an unsupported type ({first_line(error, 160)}): {PLAIN}") from None
    except UNREADABLE as error:
        if "TorchScript" in str(error):
            raise RefusedError(f"is a TorchScript program, which executes code: {PLAIN}") from None
        reason = re.sub(r"\[enforce fail at [^\]]*\][\s.]*", "", first_line(error, 200))
        raise RefusedError(f"is truncated or not a torch file ({reason[:160]})") from None


def _collect(value: Any, path: str, entries: dict[str, dict[str, Tensor]], above: tuple[int, ...]) -> None:
    """Collect all dictionaries of tensors at and below ``value``; those in lists have their place as name.

    Keys that are not text have no dotted path, and lists of tensors no names, except :data:`SHADOWS`.
    """
    if isinstance(value, list | tuple):
        named = path.rpartition(".")[2] == SHADOWS
        items = {str(place): each for place, each in enumerate(value) if named or not isinstance(each, Tensor)}
    elif isinstance(value, dict):
        items = {name: each for name, each in value.items() if isinstance(name, str)}
    else:
        return
    if id(value) in above or len(above) > DEEPEST:
        return
    if tensors := {name: each for name, each in items.items() if isinstance(each, Tensor)}:
        if path in entries:
            raise RefusedError(f"contains two entries named {path!r}")
        entries[path] = tensors
    for name, each in items.items():
        _collect(each, f"{path}.{name}".removeprefix("."), entries, (*above, id(value)))
