"""Objects in a torch file that are no tensors: each is read as a thing that does nothing.

Trainers save a step as a NumPy scalar, and their arguments as a namespace, beside the weights. The weights-only reader
of torch knows no such types and refuses the whole file. Here every unknown name in the file is bound to a stand-in, so
that it is read over: no module that a file names is imported, and nothing that it names is called.
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
CODE = f"holds more than tensors and was not loaded, because unpickling runs code: {PLAIN}"
HOSTILE = frozenset(
    {"os", "posix", "nt", "sys", "subprocess", "importlib", "runpy", "pty", "socket", "shutil", "ctypes"}
)
"""Modules that no weights need: a file that names them is refused, although nothing of it would run."""
HOSTILE_BUILTINS = frozenset({"eval", "exec", "compile", "open", "getattr", "setattr", "__import__", "input"})
LEGACY_PICKLES = 4
"""Before the tensors of a file from before torch 1.6: a magic number, a protocol, a system, the objects."""


class Inert:
    """Takes the place of any object, and any arguments and state that the file has for it."""

    def __new__(cls, *_arguments: Any) -> Inert:
        """Forget the arguments."""
        return super().__new__(cls)

    def __setstate__(self, _state: Any) -> None:
        """Forget the state."""


class InertMapping:
    """Takes the place of a kind of dictionary, whose items are read: it may hold weights."""

    def __new__(cls, *_arguments: Any) -> Any:
        """An empty dictionary of a type that the weights-only reader fills."""
        return OrderedDict()


class InertSequence:
    """Takes the place of a kind of list."""

    def __new__(cls, *_arguments: Any) -> Any:
        """An empty list."""
        return []


def stand_ins(source: BinaryIO) -> dict[str, type]:
    """A stand-in for every name that a torch file asks for.

    Raises:
        UnpicklingError: it asks for something that could only be meant to run.
    """
    found: dict[str, type] = {}
    for module, name in _names(source):
        if module.partition(".")[0] in HOSTILE or (module == "builtins" and name in HOSTILE_BUILTINS):
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        kind = InertSequence if name == "deque" else InertMapping if name.lower().endswith("dict") else Inert
        # A type of its own for each, as torch wants it.
        found[f"{module}.{name}"] = type(name, (kind,), {})
    return found


def _names(source: BinaryIO) -> Iterator[tuple[str, str]]:
    """Module and name of all that a torch file's pickles ask for; nothing is run. Leaves the file at its begin."""
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
        with suppress(ValueError):  # it ends too early: whoever reads it says so
            for _ in range(LEGACY_PICKLES):
                yield from _globals(source)
    source.seek(0)


def _globals(pickled: Any) -> Iterator[tuple[str, str]]:
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name == "GLOBAL":
            module, _, name = str(argument).partition(" ")
            # Pickles of the protocol that torch writes call modules as Python 2 did.
            module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
            yield module, name


def unpickling_reason(error: pickle.UnpicklingError) -> str:
    """What torch found, without the advice around it, which is to trust the file."""
    told = re.search(r"WeightsUnpickler error:\s*(.+?)(?:\. Please use|\n|$)", str(error))
    return told[1][:160] if told else first_line(error, 160)
