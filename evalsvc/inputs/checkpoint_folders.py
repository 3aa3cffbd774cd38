"""The files of a checkpoint folder that define its digest: those that a loader could read.

Training state (optimizer, scheduler, random state), logs and system files can be deleted or rewritten without changing
the model, so they are excluded.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from evalsvc.core.digests import digest_files, digest_json, digest_path, stamp_path, walk
from evalsvc.core.errors import CheckpointError, InputError, first_line
from evalsvc.core.files.json_files import read_json
from evalsvc.core.files.regular_files import require_regular

if TYPE_CHECKING:  # torch takes seconds to import, and names of checkpoints are read without it
    from evalsvc.plugins.interfaces import CheckpointFiles


@dataclass(frozen=True)
class LeftOut:
    """Excluded files and folders, by their own name; in ``logs`` folders everything except weights is excluded.

    The list affects digests. When changing it, raise ``version`` and keep the old list in ``EARLIER``, so that
    checkpoints are still recognized by their previous digests.
    """

    version: int
    names: tuple[str, ...]
    logs: tuple[str, ...]
    weights: tuple[str, ...]

    def __call__(self, name: str) -> bool:
        """Whether a file or folder with this name is excluded."""
        return any(fnmatchcase(name, pattern) for pattern in self.names)

    def files(self, folder: Path) -> Iterator[str]:
        """Relative names of the included files, in order."""
        for name in walk(folder, exclude_files=self):
            *above, own = name.split("/")
            if set(self.logs).isdisjoint(above) or own.endswith(self.weights):
                yield name


_EVERYTHING = LeftOut(0, (), (), ())
LEFT_OUT = LeftOut(
    version=1,
    names=(
        # training state of transformers, accelerate, FSDP, DeepSpeed, Megatron
        *("optimizer.pt", "optimizer.bin", "optimizer.safetensors", "optimizer_[0-9]*"),
        *("*_optim_states.pt", "distrib_optim.pt", "scheduler.pt", "scheduler.bin", "scheduler_[0-9]*.bin"),
        *("scaler.pt", "rng_state.pth", "rng_state_[0-9]*.pth", "random_states_[0-9]*.pkl"),
        *("sampler.bin", "sampler_[0-9]*.bin", "dl_state_dict.bin", "dl_state_dict_[0-9]*.bin"),
        *("trainer_state.json", "training_args.bin", "zero_to_fp32.py"),
        # logs and results
        *("events.out.tfevents.*", "*.log", "*.wandb", "trainer_log.jsonl", "all_results.json"),
        *("train_results.json", "eval_results.json", "predict_results.json"),
        # documentation, version control and hub metadata
        *("README.md", "LICENSE", "LICENSE.md", "LICENSE.txt", "NOTICE", "NOTICE.md", "NOTICE.txt"),
        *(".git", ".gitattributes", ".gitignore", ".gitmodules", ".cache", ".locks"),
        # system and tool files
        *(".DS_Store", "._*", "__MACOSX", "@eaDir", "Thumbs.db", "desktop.ini", ".ipynb_checkpoints"),
        *("__pycache__", "*.pyc", ".Trash*", ".nfs*", ".~lock.*", ".*.swp", "*.lock", "lost+found"),
    ),
    logs=("logs", "runs", "wandb", "mlruns", "tensorboard", "lightning_logs", "tb_logs"),
    weights=(
        *(".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".gguf", ".pkl", ".npz", ".npy", ".h5", ".onnx"),
        *(".msgpack", ".distcp"),
    ),
)
"""The files that no loader reads. A plug-in can select the files of its own checkpoints instead."""
EARLIER: tuple[LeftOut, ...] = (_EVERYTHING,)

ENDPOINT = "endpoint:"
"""Prefix for the name of an endpoint of the server file, in place of a checkpoint's path."""

DCP_METADATA, DCP_SHARD = ".metadata", re.compile(r"__\d{1,6}_\d{1,6}\.distcp")
"""Names of the files of a sharded folder of ``torch.distributed.checkpoint``; the first is written last."""
EXPORT_DCP = "export it by 'python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER FILE'"

ADAPTER_CONFIG = "adapter_config.json"
HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


def endpoint_name(where: str | os.PathLike[str]) -> str | None:
    """The name in ``endpoint:NAME``, or ``None`` for any other path."""
    text = os.fspath(where)
    return text.removeprefix(ENDPOINT) if text.startswith(ENDPOINT) else None


def stamp_checkpoint(path: Path) -> str:
    """A stamp that changes with the content, without reading it: see :func:`evalsvc.core.digests.stamp_path`."""
    if endpoint_name(path) is not None:
        return digest_checkpoint(path)
    stamps = [stamp_path(path.with_name(name)) for name in _files_of(path)]
    return stamps[0] if len(stamps) == 1 else digest_json(stamps)


def digest_checkpoint(path: Path, files: CheckpointFiles | None = None) -> str:
    """sha256 of a checkpoint: a file, the included names and contents of a folder, or the URL and model of an endpoint.

    ``files`` selects the included files in place of :data:`LEFT_OUT`. The base of an adapter is included: the content
    of a folder, or the name and revision of a hub model. Of a base that is not on this machine, the name counts: an
    option may name another.

    Raises:
        InputError: the checkpoint does not exist.
    """
    if (name := endpoint_name(path)) is not None:
        from evalsvc.inputs.server_file import (
            server_file,
        )  # reading commands need neither this import nor an HTTP client

        return server_file().endpoint(name).digest
    if path.is_file():
        names = _files_of(path)
        return digest_path(path) if len(names) == 1 else digest_files(path.parent, names)
    return _digest(path, files or LEFT_OUT.files)


def weights_beside(graph: Path) -> Path:
    """The file in which ``torch.onnx.export`` puts the weights of a graph."""
    return graph.with_name(f"{graph.name}.data")


def _files_of(path: Path) -> list[str]:
    """Names of the files of a checkpoint that is a file: its own, and for a graph of ONNX that of its weights."""
    weights = weights_beside(path)
    return [path.name, weights.name] if path.suffix.lower() == ".onnx" and weights.is_file() else [path.name]


def digest_unchanged(path: Path) -> str:
    """The same digest, computed again only if the stamp of the content has changed."""
    return _digest_of_stamp(path, stamp_checkpoint(path))


@lru_cache(maxsize=64)
def _digest_of_stamp(path: Path, stamp: str) -> str:
    return digest_checkpoint(path)


def earlier_digests(path: Path) -> Iterator[str]:
    """Digests of a folder under earlier exclusion lists, and without a plug-in's own selection of files.

    Of a graph of ONNX, the digest without the weights beside it.
    """
    if path.is_file():
        yield digest_path(path)
    if path.is_dir():
        for files in (LEFT_OUT, *EARLIER):
            yield digest_files(path, files.files(path))


def refuse_local_base(folder: Path) -> None:
    """Raise a :class:`CheckpointError` if an untrusted folder is an adapter whose base is a path on this machine."""
    if not (folder / ADAPTER_CONFIG).is_file():
        return
    base = named_base(folder / ADAPTER_CONFIG)[0]
    if base and (not HUB_ID.fullmatch(base) or Path(base).exists()):
        raise CheckpointError(
            f"{folder.name} is an adapter whose base is a path on this server: merge the adapter into its base"
        )


def _digest(folder: Path, files: CheckpointFiles, above: tuple[Path, ...] = ()) -> str:
    if not folder.exists():
        raise InputError(f"{folder} does not exist")
    require_regular(folder)
    names = sorted(set(files(folder)), key=lambda name: name.split("/"))
    if not names:
        raise InputError(f"folder {folder} contains no checkpoint files")
    try:
        digest = digest_files(folder, names)
    except FileNotFoundError as error:
        raise CheckpointError(f"{error.filename} is missing, but the checkpoint needs it: restore it") from None
    if ADAPTER_CONFIG not in names:
        return digest
    return digest_json([digest, _base_of(folder, above)])


def _base_of(folder: Path, above: tuple[Path, ...]) -> str:
    """Text that identifies the content of an adapter's base; empty if the folder is not an adapter."""
    config = folder / ADAPTER_CONFIG
    base, revision = named_base(config)
    path = Path(base)
    if base and path.is_dir():
        if path.resolve() in (*above, folder.resolve()):
            raise CheckpointError(f"{config} names an adapter as the base of itself: name the base model")
        return _digest(path, LEFT_OUT.files, (*above, folder.resolve()))
    return f"{base}@{revision}" if base else ""


def named_base(config: Path) -> tuple[str, str]:
    """The base of an adapter and its revision; empty if the file does not name one."""
    try:
        named = read_json(config)
        return str(named.get("base_model_name_or_path") or ""), str(named.get("revision") or "main")
    except (ValueError, AttributeError) as error:
        raise CheckpointError(f"{config} is not a JSON object ({first_line(error, 160)})") from None
