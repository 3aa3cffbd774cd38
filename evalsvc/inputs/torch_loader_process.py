"""Process that reads untrusted torch files: ``python -m evalsvc.inputs.torch_loader_process SOCKET``.

It imports torch once and forks a child for each file. The child gives up its privileges before it reads the first byte.
It inherits only the file, the memory for the tensors and a pipe for its response as open descriptors, and in particular
not the socket. It writes the tensors in the safetensors format, whose reader is safe, and its descendants are killed
with it. Hence a file can affect neither the next file nor the process that requested it.
"""

from __future__ import annotations

import codecs
import io
import json
import os
import select
import signal
import socket
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import safetensors.torch
import torch

from evalsvc.core.errors import RefusedError, first_line
from evalsvc.core.files.regular_files import most_unpacked
from evalsvc.core.sandbox import restrictions
from evalsvc.core.sandbox.reachability import probe
from evalsvc.inputs.distributed_checkpoints import read_shards
from evalsvc.inputs.state_dicts import StateDicts
from evalsvc.inputs.torch_files import read_state

TORCH, SHARDS = "torch", "shards"
MOST_DESCRIPTORS, LONGEST_REQUEST = 253, 2**14
"""Of one request: Linux sends no more descriptors with a message; and bytes."""
MARGIN = 2**29
"""Memory in bytes for reading, independent of the size of a file."""
COPIES = 3
"""Memory for tensors, as a multiple of the file size: read, joined, and written."""
ROOM = 4000
"""Maximum size of a response in bytes."""
STEP = 0.002
"""Seconds between two polls of a child."""


def convert(source: BinaryIO, target: BinaryIO) -> None:
    """Read a weights-only torch file; write its tensors as safetensors, named by the JSON of entry and name."""
    _write(read_state(source), target)


def _write(state: StateDicts, target: BinaryIO) -> None:
    whole, seen = {}, set()
    for entry, tensors in state.entries.items():
        for name, tensor in tensors.items():
            key = json.dumps([entry, name])
            if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta or tensor.is_nested:
                kind = "quantized" if tensor.is_quantized else "without data" if tensor.is_meta else "not dense"
                raise RefusedError(f"contains {name} as a tensor that is {kind}: save dense tensors of numbers")
            whole[key] = tensor.detach().contiguous()
            memory = whole[key].untyped_storage().data_ptr()
            if memory in seen:  # shared with another tensor, which this format does not support
                whole[key] = whole[key].clone()
            seen.add(memory)
    try:
        target.write(safetensors.torch.save(whole, {"others": json.dumps(state.others)}))
    except (ValueError, KeyError, RuntimeError, safetensors.SafetensorError) as error:
        raise RefusedError(f"contains a tensor of an unsupported type ({first_line(error, 160)})") from None
    target.flush()


def main(descriptor: str) -> None:
    """Respond to requests until the socket closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is handled by the parent
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # torch's warnings about files: the response reports faults
    restrictions.adopt_orphans()
    _import_all()
    with socket.socket(fileno=int(descriptor)) as channel, suppress(BrokenPipeError, ConnectionResetError):
        while True:
            message, descriptors, _, _ = socket.recv_fds(channel, LONGEST_REQUEST, MOST_DESCRIPTORS)
            if not message:
                return
            try:
                answer = _run_in_child(json.loads(message), descriptors, channel)
            finally:
                for each in descriptors:
                    os.close(each)
            channel.sendall(json.dumps(answer).encode())


def _import_all() -> None:
    """Import everything that Python, torch and NumPy otherwise import lazily: a child can open no files."""
    for encoding in ("ascii", "latin-1", "cp437", "utf-8", "utf-16", "utf-32", "unicode_escape", "raw_unicode_escape"):
        codecs.lookup(encoding)  # names in zip archives are of cp437
    tied = torch.zeros(2, 3)
    for legacy in (True, False):
        file = io.BytesIO()
        torch.save({"x": tied, "y": tied.T, "n": np.float64(0)}, file, _use_new_zipfile_serialization=not legacy)
        convert(io.BytesIO(file.getvalue()), io.BytesIO())


def _converter(request: Mapping[str, Any]) -> Callable[[BinaryIO, BinaryIO], None]:
    """The conversion of one file that is asked for; its module is imported."""
    if request.get("format", TORCH) in (TORCH, SHARDS):
        return convert
    options = {name: value for name, value in request.items() if name not in ("format", "seconds")}
    converters: dict[str, Callable[..., None]]
    if request["format"].startswith("hdf5"):
        from evalsvc.inputs import hdf5_conversion as hdf5

        converters = {"hdf5-list": hdf5.list_arrays, "hdf5-array": hdf5.convert_array}
    elif request["format"] == "c2pa":
        from evalsvc.inputs.c2pa_manifests import convert_manifest

        converters = {"c2pa": convert_manifest}
    else:
        from evalsvc.inputs.tables import parquet_conversion as parquet

        converters = {"table": parquet.convert_table, "schema": parquet.convert_schema, "cells": parquet.convert_cells}
    return partial(converters[request["format"]], **options)


def _run_in_child(request: dict[str, Any], descriptors: list[int], channel: socket.socket) -> str:
    """Convert a file in a child; return its fault, or empty text. All descendants of the child are killed."""
    _converter(request)  # before the fork, since a child cannot import it
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _be_child(request, descriptors, writing)
    os.close(writing)
    answer, status = _listen(child, reading, time.monotonic() + request["seconds"], channel)
    os.close(reading)
    _end(child, status is not None)
    if status is None or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU):
        return f"was not read within {request['seconds']} s and was given up"
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        name = next((each.name for each in signal.Signals if each == number), f"signal {number}")
        return f"crashed the process that read it ({name}): it is damaged or malicious"
    return answer.decode(errors="replace")


def _listen(child: int, pipe: int, deadline: float, channel: socket.socket) -> tuple[bytes, int | None]:
    """Read the response of a child until it exits or the time is up; return it with its exit status, or ``None``.

    The pipe may outlive the child, and the child may outlive the pipe, so both are polled. If the other end of the
    channel closes, the time is up.
    """
    answer = b""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    poll.register(channel, 0)  # the requesting process has exited
    while (left := deadline - time.monotonic()) > 0:
        events = dict(poll.poll(min(left, STEP) * 1000))
        if channel.fileno() in events:
            break
        if pipe in events:
            part = os.read(pipe, ROOM)
            answer = (answer + part)[:ROOM]
            if not part:
                poll.unregister(pipe)
            continue
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            os.set_blocking(pipe, False)
            with suppress(BlockingIOError):  # it answered since the pipe was polled, or not at all
                answer = (answer + os.read(pipe, ROOM))[:ROOM]
            return answer, status
    return answer, None


def _end(child: int, ended: bool) -> None:
    """Kill a child, its process group and its other descendants."""
    with suppress(ProcessLookupError, PermissionError):  # it has exited, or does not exist yet
        os.killpg(child, signal.SIGKILL)
    if not ended:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    with suppress(ChildProcessError):  # orphans that were reparented to this process
        while True:
            while not os.waitpid(-1, os.WNOHANG)[0]:
                for orphan in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
                    os.kill(int(orphan), signal.SIGKILL)
                time.sleep(STEP)


def _be_child(request: dict[str, Any], descriptors: list[int], writing: int) -> None:
    answer = ""
    try:
        writing, *descriptors = restrictions.keep_only(writing, *descriptors)
        size = sum(os.fstat(each).st_size for each in descriptors)
        written = max(2 * size + MARGIN, most_unpacked(size))
        restrictions.limit(COPIES * size + MARGIN, request["seconds"], written)
        restrictions.confine()
        if "look" in request:
            answer = ", ".join(probe(request["look"], 1 + len(descriptors)))
        else:
            *sources, target = descriptors
            with ExitStack() as opened, open(target, "wb", closefd=False) as out:
                files = [opened.enter_context(open(each, "rb", closefd=False)) for each in sources]
                if request["format"] == SHARDS:
                    _write(read_shards(dict(zip(request["names"], files, strict=True))), out)
                else:
                    _converter(request)(files[0], out)
    except RefusedError as error:
        answer = str(error)
    except BaseException as error:
        answer = f"could not be read ({type(error).__name__}: {error})"
    if "MemoryError" in answer or "can't allocate memory" in answer:
        answer = "needs far more memory than its size and was not loaded"
    os.write(writing, answer.encode()[:ROOM])
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
