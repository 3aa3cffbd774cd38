"""Loading of untrusted files (torch, Parquet, ...) in a sandboxed process: see ``docs/design/0004-loading.md``."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import pyarrow as pa
from safetensors import SafetensorError

from evalsvc.core.errors import CheckpointError, InputError, RefusedError, first_line
from evalsvc.core.files.regular_files import open_regular
from evalsvc.core.files.safetensors_files import open_descriptor
from evalsvc.core.sandbox import restrictions
from evalsvc.inputs.checkpoint_folders import DCP_METADATA, DCP_SHARD, EXPORT_DCP
from evalsvc.inputs.state_dicts import StateDicts

if TYPE_CHECKING:
    from torch import Tensor

SECONDS, BYTES_A_SECOND = 60, 20_000_000
"""Seconds for any file, including slow disks."""
GRACE = 120
"""Additional seconds for the start of the process on a busy machine."""
MOST_FILES = 240
"""Maximum number of files read together: Linux sends at most 253 descriptors with a message."""
MOST_LISTED = 2**22
"""Maximum size of a list of arrays in bytes."""
LONGEST_OTHER = 200
"""Maximum length of the name of an entry without tensors, in characters."""


def read_tensors(path: Path) -> StateDicts:
    """Load all tensors of a torch file to the CPU.

    Raises:
        CheckpointError: the file contains more than tensors, is not a torch file, or exceeds a limit of memory or time.
        InputError: it is a pipe or a device.
    """
    try:
        return _read([path], {"format": "torch"})
    except RefusedError as error:
        raise CheckpointError(f"checkpoint {path} {error}") from None


def read_shards(folder: Path) -> StateDicts:
    """Load all tensors of a sharded folder of ``torch.distributed.checkpoint`` to the CPU.

    Raises:
        CheckpointError: a file is damaged or missing, refers to other objects, or exceeds a limit of memory or time.
        InputError: a file is a pipe or a device.
    """
    names = [DCP_METADATA, *(path.name for path in sorted(folder.iterdir()) if DCP_SHARD.fullmatch(path.name))]
    try:
        if len(names) > MOST_FILES:
            raise RefusedError(f"has more than {MOST_FILES - 1} shards: {EXPORT_DCP}")
        return _read([folder / name for name in names], {"format": "shards", "names": names})
    except RefusedError as error:
        raise CheckpointError(f"checkpoint {folder} {error}") from None


def _read(paths: Sequence[Path], request: Mapping[str, Any]) -> StateDicts:
    with _converted(paths, request) as target:
        try:
            with open_descriptor(target) as file:
                return _state_dicts(file)
        except (SafetensorError, OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise RefusedError(f"was converted to an invalid set of tensors ({first_line(error, 160)})") from None


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Load some columns of a Parquet file, or all, mapped from private memory.

    Raises:
        InputError: it is not a regular file, is damaged, or exceeds a limit of memory or time.
    """
    return _arrow(path, {"format": "table", "columns": columns})


def read_schema(path: Path) -> pa.Schema:
    """The columns of a Parquet file; the metadata has what :func:`convert_schema` says. Raises like `read_table`."""
    return _arrow(path, {"format": "schema"}).schema


def write_cells(path: Path, target: BinaryIO, column: str, groups: tuple[int, int], room: int, rows: int) -> None:
    """Append contents of a column of a Parquet file to ``target``, as :func:`convert_cells` does."""
    try:
        cells = {"format": "cells", "column": column, "groups": groups, "room": room, "rows": rows}
        _convert([path], target, cells)
    except RefusedError as error:
        raise InputError(f"{path} {error}") from None


def read_hdf5_list(path: Path) -> Any:
    """The arrays of an HDF5 file, as :func:`list_arrays` describes them: JSON of an untrusted process."""
    try:
        with _converted([path], {"format": "hdf5-list"}) as target:
            target.seek(0)
            return json.loads(target.read(MOST_LISTED))
    except RefusedError as error:
        raise InputError(f"{path} {error}") from None


def read_hdf5_array(path: Path, target: BinaryIO, name: str, room: int) -> None:
    """Write an array of an HDF5 file to ``target``, as :func:`convert_array` does."""
    try:
        _convert([path], target, {"format": "hdf5-array", "name": name, "room": room})
    except RefusedError as error:
        raise InputError(f"{path} {error}") from None


def read_c2pa(content: bytes) -> tuple[bool, bool]:
    """Whether an encoded file has a manifest of C2PA, and whether that is valid, as :func:`convert_manifest` finds.

    Raises:
        RefusedError: the file cannot be read; the message follows its name.
    """
    with _nameless() as source, _nameless() as target:
        source.write(content)
        source.seek(0)
        _ask([source], target, {"format": "c2pa"})
        target.seek(0)
        answer = target.read(2)
    if len(answer) != 2 or max(answer) > 1:
        raise RefusedError("crashed the process that read it: it is damaged or malicious")
    return bool(answer[0]), bool(answer[1])


def _arrow(path: Path, request: Mapping[str, Any]) -> pa.Table:
    try:
        with _converted([path], request) as target:
            try:
                table = pa.ipc.open_stream(pa.memory_map(f"/dev/fd/{target.fileno()}")).read_all()
                table.validate(full=True)  # by a process that the file may have compromised
                return table
            except (OSError, ValueError, pa.ArrowException) as error:
                raise RefusedError(f"was converted to an invalid table ({first_line(error, 160)})") from None
    except RefusedError as error:
        raise InputError(f"{path} {error}") from None


@contextmanager
def _converted(paths: Sequence[Path], request: Mapping[str, Any]) -> Iterator[BinaryIO]:
    """Convert files in the sandboxed process; the result is sealed against changes."""
    with _nameless() as target:
        _convert(paths, target, request)
        try:
            _seal(target)
        except OSError as error:
            raise RefusedError(f"was read by a process that still holds the result ({error})") from None
        yield target


def _convert(paths: Sequence[Path], target: BinaryIO, request: Mapping[str, Any]) -> None:
    with ExitStack() as opened:
        _ask([opened.enter_context(open_regular(path)) for path in paths], target, request)


def _ask(files: Sequence[BinaryIO], target: BinaryIO, request: Mapping[str, Any]) -> None:
    sources = [file.fileno() for file in files]
    seconds = SECONDS + sum(os.fstat(source).st_size for source in sources) // BYTES_A_SECOND
    if wrong := _reader.ask({"seconds": seconds, **request}, *sources, target.fileno()):
        raise RefusedError(wrong)


def _state_dicts(file: Any) -> StateDicts:
    """The tensors by entry, from the names that the reader wrote, which are as untrusted as the file."""
    entries: dict[str, dict[str, Tensor]] = {}
    for key in file.keys():  # noqa: SIM118
        entry, name = json.loads(key)
        if not (isinstance(entry, str) and isinstance(name, str)):
            raise TypeError("a name that is not text")
        entries.setdefault(entry, {})[name] = file.get_tensor(key)
    others = json.loads((file.metadata() or {})["others"])
    return StateDicts(entries, tuple(str(other)[:LONGEST_OTHER] for other in others))


def _seal(target: BinaryIO) -> None:
    """Seal the memory against changes, including by a process that still has it open."""
    if sys.platform == "linux":
        fcntl.fcntl(target, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE)


def reachable() -> str:
    """Accesses beyond the checkpoint that a sandboxed process has on this machine; empty if the sandbox is closed."""
    return _reader.ask({"look": os.getpid(), "seconds": SECONDS})


def _nameless() -> BinaryIO:
    if sys.platform == "linux":
        return os.fdopen(os.memfd_create("tensors", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "w+b")
    return cast(BinaryIO, tempfile.TemporaryFile())


class _Reader:
    """The reading process: started on first use, exits with this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asker = 0
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, request: Mapping[str, Any], *descriptors: int) -> str:
        """Send a request; return the fault of the file, or empty text if its tensors were written."""
        with self._lock:
            if self._asker != os.getpid() or self._process is None or self._process.poll() is not None:
                self._start()
            try:
                self._channel.settimeout(int(request["seconds"]) + GRACE)
                socket.send_fds(self._channel, [json.dumps(request).encode()], descriptors)
                answer = self._channel.recv(2**16)
            except OSError:
                answer = b""
            except BaseException:  # a deadline or Ctrl-C: a late response must not answer the next request
                self._leave()
                raise
            if not answer:
                self._leave()
                raise CheckpointError(
                    "the process that reads checkpoints died: memory may have run out; run the command again"
                )
        return "".join(each for each in str(json.loads(answer)) if each.isprintable())

    def _leave(self) -> None:
        """Disconnect from the process, which ends it and its current work."""
        assert self._process is not None
        self._channel.close()
        self._process.kill()
        self._process.wait()
        self._process = None

    def _start(self) -> None:
        self._asker = os.getpid()  # a forked process must not use this connection
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "evalsvc.inputs.torch_loader_process", str(theirs.fileno())],
                env=restrictions.environment() | restrictions.import_path(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )


_reader = _Reader()
