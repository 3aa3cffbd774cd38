"""The checkpoint files that a client may have evaluated: those under the configured roots, and uploads."""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from collections.abc import AsyncIterator, Sequence
from http import HTTPStatus
from pathlib import Path

import anyio

from evalsvc.api import schemas
from evalsvc.api.server.problems import ProblemError
from evalsvc.core.digests import walk
from evalsvc.core.errors import InputError, StorageError
from evalsvc.core.files.atomic_files import TEMPORARY
from evalsvc.core.files.file_modes import make_file, make_folder

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.(safetensors|pt|pth|bin|ckpt|npz|npy|zip|jsonl)")


def under_roots(path: str, roots: Sequence[Path]) -> Path:
    """The file or folder with all links resolved, if all of it lies under a root.

    Raises:
        InputError: it lies elsewhere, does not exist, or there is no root. The message is the same in all cases, so
            that it
            does not reveal which other files exist.
    """
    refusal = InputError(
        f"no checkpoint {path!r} under EVALSVC_CHECKPOINT_ROOTS of this server: put it there, or upload it"
    )
    given = Path(path)
    if not given.is_absolute() or ".." in given.parts:
        raise refusal
    resolved = [root.resolve() for root in roots]

    def inside(each: Path) -> bool:
        return any(each.is_relative_to(root) and each != root for root in resolved)

    try:
        target = given.resolve(strict=True)
        # Inspected only once it is known to be inside; files of a folder may link out of it.
        names = walk(target) if inside(target) and target.is_dir() else ()
        if not inside(target) or not all(inside((target / name).resolve(strict=True)) for name in names):
            raise refusal
    except (OSError, ValueError, RuntimeError, InputError):
        raise refusal from None
    return target


def uploaded(digest: str, uploads: Path) -> Path:
    """The file of an upload.

    Raises:
        InputError: there is no such upload.
    """
    found = [file for file in (uploads / digest).glob("*") if not file.name.startswith(".")]
    if not found:
        raise InputError(f"there is no upload {digest}: send the file to /api/v1/uploads first")
    return found[0]


async def take_in(name: str, body: AsyncIterator[bytes], uploads: Path, limit: int) -> schemas.Upload:
    """Store a request body under its digest, atomically.

    Raises:
        ProblemError: it exceeds the limit.
        StorageError: there is not enough space.
        InputError: it is empty, or its name is not that of a checkpoint.
    """
    if not NAME.fullmatch(name):
        raise InputError(f"invalid checkpoint file name {name!r}: use a name such as step_4000.safetensors")
    temporary = uploads / f"{TEMPORARY}{uuid.uuid4().hex}"
    digest, size = hashlib.sha256(), 0
    try:
        make_folder(uploads)
        make_file(temporary)
        async with await anyio.open_file(temporary, "wb") as file:
            async for chunk in body:
                size += len(chunk)
                if size > limit:
                    raise too_large(limit)
                digest.update(chunk)
                await file.write(chunk)
            await file.flush()
            await anyio.to_thread.run_sync(os.fsync, file.wrapped.fileno())
        if not size:
            raise InputError("the upload is empty")
        folder = uploads / digest.hexdigest()
        make_folder(folder)
        known = [file for file in folder.iterdir() if not file.name.startswith(".")]
        if known:
            os.utime(folder)  # as new as any other upload, so that garbage collection keeps it
        else:
            temporary.replace(folder / name)
        return schemas.Upload(digest=digest.hexdigest(), name=known[0].name if known else name, bytes=size)
    except OSError as error:
        raise StorageError(f"the upload could not be stored ({error.strerror})") from error
    finally:
        temporary.unlink(missing_ok=True)


def too_large(limit: int) -> ProblemError:
    """413 Content Too Large."""
    return ProblemError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the upload exceeds the limit of {limit} bytes (EVALSVC_UPLOAD_LIMIT)"
    )
