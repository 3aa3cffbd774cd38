"""Inert stand-ins for objects in a torch file that are not tensors.

Trainers save a step as a NumPy scalar, or arguments as a namespace, beside the weights. The weights-only reader of
torch refuses such files. Here every unknown name in the file is bound to a stand-in, so that the object is skipped: no
module that the file names is imported, and no callable in it is called.
"""

from __future__ import annotations

import pickle
import pickletools
import re
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, BinaryIO

from evalsvc.core.errors import first_line

PLAIN = "save it as safetensors or as a plain state_dict"
CODE = f"contains more than tensors and was not loaded, because unpickling can execute code: {PLAIN}"
HOSTILE = frozenset(
    {"os", "posix", "nt", "sys", "subprocess", "importlib", "runpy", "pty", "socket", "shutil", "ctypes"}
)
"""Modules that weights never need: a file that refers to them is refused, although its code would not run."""
HOSTILE_BUILTINS = frozenset({"eval", "exec", "compile", "open", "getattr", "setattr", "__import__", "input"})
LEGACY_PICKLES = 4
"""Pickles before the tensors in files of torch before 1.6: magic number, protocol, system, objects."""


class Inert:
    """Replaces any object; ignores its arguments and state."""

    def __new__(cls, *_arguments: Any) -> Inert:
        """Ignore the arguments."""
        return super().__new__(cls)

    def __setstate__(self, _state: Any) -> None:
        """Ignore the state."""


class InertMapping:
    """Replaces a dictionary type; its items are read, since they may be weights."""

    def __new__(cls, *_arguments: Any) -> Any:
        """Return an empty dictionary of a type that the weights-only reader fills."""
        return OrderedDict()


class InertSequence:
    """Replaces a list type."""

    def __new__(cls, *_arguments: Any) -> Any:
        """Return an empty list."""
        return []


def stand_ins(source: BinaryIO) -> dict[str, type]:
    """A stand-in for every name to which a torch file refers.

    Raises:
        UnpicklingError: the file refers to a name that is only useful for running code.
    """
    types: dict[str, type] = {}
    for module, name in _names(source):
        if module.partition(".")[0] in HOSTILE or (module == "builtins" and name in HOSTILE_BUILTINS):
            raise pickle.UnpicklingError(f"it refers to {module}.{name}")
        kind = InertSequence if name == "deque" else InertMapping if name.lower().endswith("dict") else Inert
        # A separate type for each, as torch requires.
        types[f"{module}.{name}"] = type(name, (kind,), {})
    return types


def _names(source: BinaryIO) -> Iterator[tuple[str, str]]:
    """Module and name of all references in a torch file's pickles, without running them. Rewinds the file."""
    source.seek(0)
    zipped = source.read(4) == b"PK\x03\x04"
    source.seek(0)
    if zipped:
        with zipfile.ZipFile(source) as archive:
            for member in archive.namelist():
                if member.endswith("/data.pkl"):
                    with archive.open(member) as pickled:
                        yield from _globals(pickled)
    else:
        with suppress(ValueError):  # it is truncated, which the reader reports
            for _ in range(LEGACY_PICKLES):
                yield from _globals(source)
    source.seek(0)


def _globals(pickled: Any) -> Iterator[tuple[str, str]]:
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name == "GLOBAL":
            module, _, name = str(argument).partition(" ")
            yield module, name
            # Pickles of torch's protocol use the module names of Python 2.
            yield NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))


def unpickling_reason(error: pickle.UnpicklingError) -> str:
    """The cause from torch's message, without its advice to trust the file."""
    match = re.search(r"WeightsUnpickler error:\s*(.+?)(?:\. Please use|\n|$)", str(error))
    return match[1][:160] if match else first_line(error, 160)
