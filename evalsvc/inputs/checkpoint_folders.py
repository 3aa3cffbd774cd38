"""Which files of a checkpoint's folder are the checkpoint: what a loader could read counts, and nothing else.

What a trainer needs to go on (optimizer, scheduler, random state), its logs, and what systems leave is deleted, or
written anew, without the model being another.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from evalsvc.core.digests import digest_files, digest_json, digest_path, stamp_path, walk
from evalsvc.core.errors import CheckpointError, InputError, first_line
from evalsvc.core.files.json_files import read_json
from evalsvc.core.files.regular_files import require_regular
from evalsvc.plugins.interfaces import CheckpointFiles


@dataclass(frozen=True)
class LeftOut:
    """What does not count: files and folders by their own name, and in ``logs`` folders all but weights.

    The list decides digests. Whoever changes it raises ``version`` and keeps the old one in ``EARLIER``, so that
    checkpoints are known by the digest that they had.
    """

    version: int
    names: tuple[str, ...]
    logs: tuple[str, ...]
    weights: tuple[str, ...]

    def __call__(self, name: str) -> bool:
        """Whether a file, or folder, of this own name is left out."""
        return any(fnmatchcase(name, pattern) for pattern in self.names)

    def files(self, folder: Path) -> Iterator[str]:
        """Relative names of what is left, in order."""
        for name in walk(folder, exclude_files=self):
            *above, own = name.split("/")
            if set(self.logs).isdisjoint(above) or own.endswith(self.weights):
                yield name


_EVERYTHING = LeftOut(0, (), (), ())
LEFT_OUT = LeftOut(
    version=1,
    names=(
        # what training goes on from: transformers, accelerate, FSDP, DeepSpeed, Megatron
        *("optimizer.pt", "optimizer.bin", "optimizer.safetensors", "optimizer_[0-9]*"),
        *("*_optim_states.pt", "distrib_optim.pt", "scheduler.pt", "scheduler.bin", "scheduler_[0-9]*.bin"),
        *("scaler.pt", "rng_state.pth", "rng_state_[0-9]*.pth", "random_states_[0-9]*.pkl"),
        *("sampler.bin", "sampler_[0-9]*.bin", "dl_state_dict.bin", "dl_state_dict_[0-9]*.bin"),
        *("trainer_state.json", "training_args.bin", "zero_to_fp32.py"),
        # logs and results
        *("events.out.tfevents.*", "*.log", "*.wandb", "trainer_log.jsonl", "all_results.json"),
        *("train_results.json", "eval_results.json", "predict_results.json"),
        # what is for readers, version control and hubs
        *("README.md", "LICENSE", "LICENSE.md", "LICENSE.txt", "NOTICE", "NOTICE.md", "NOTICE.txt"),
        *(".git", ".gitattributes", ".gitignore", ".gitmodules", ".cache", ".locks"),
        # what systems and tools leave
        *(".DS_Store", "._*", "__MACOSX", "@eaDir", "Thumbs.db", "desktop.ini", ".ipynb_checkpoints"),
        *("__pycache__", "*.pyc", ".Trash*", ".nfs*", ".~lock.*", ".*.swp", "*.lock", "lost+found"),
    ),
    logs=("logs", "runs", "wandb", "mlruns", "tensorboard", "lightning_logs", "tb_logs"),
    weights=(
        *(".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".gguf", ".pkl", ".npz", ".npy", ".h5", ".onnx"),
        *(".msgpack", ".distcp"),
    ),
)
"""What no loader reads. Of what plug-ins might read nothing is on it: a plug-in narrows its own checkpoints."""
EARLIER: tuple[LeftOut, ...] = (_EVERYTHING,)

ENDPOINT = "endpoint:"
"""Before the name of an endpoint of the server file, in place of a checkpoint's path."""

ADAPTER_CONFIG = "adapter_config.json"
_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


def endpoint_name(where: str | os.PathLike[str]) -> str | None:
    """The name in ``endpoint:NAME``; ``None`` of any other path."""
    text = os.fspath(where)
    return text.removeprefix(ENDPOINT) if text.startswith(ENDPOINT) else None


def stamp_checkpoint(path: Path) -> str:
    """Changes with the content of a checkpoint, which it does not read: see :func:`evalsvc.core.digests.stamp_path`."""
    return stamp_path(path) if endpoint_name(path) is None else digest_checkpoint(path)


def digest_checkpoint(path: Path, files: CheckpointFiles | None = None) -> str:
    """sha256 of a file, of the names and contents of all that counts in a folder, or of what an endpoint serves where.

    ``files`` says what counts in place of :data:`LEFT_OUT`. Where an adapter names its base, the base counts too: the
    content of a folder, the name and revision of a hub's.

    Raises:
        InputError: there is nothing, or the base that an adapter names is not there.
    """
    if (name := endpoint_name(path)) is not None:
        from evalsvc.inputs.server_file import server_file  # reading commands need neither it nor a client

        return server_file().endpoint(name).digest
    return digest_path(path) if path.is_file() else _digest(path, files or LEFT_OUT.files)


def earlier_digests(path: Path) -> Iterator[str]:
    """The digests that a folder would have had under the earlier lists, and under none of a plug-in's own."""
    if path.is_dir():
        for files in (LEFT_OUT, *EARLIER):
            yield digest_files(path, files.files(path))


def refuse_local_base(folder: Path) -> None:
    """Raise a :class:`CheckpointError` if a folder of an untrusted user is an adapter whose base is a path here."""
    if not (folder / ADAPTER_CONFIG).is_file():
        return
    base = _named_base(folder / ADAPTER_CONFIG)[0]
    if base and (not _HUB_ID.fullmatch(base) or Path(base).exists()):
        raise CheckpointError(f"{folder.name} is an adapter whose base is a path on this server: merge the two")


def _digest(folder: Path, files: CheckpointFiles, above: tuple[Path, ...] = ()) -> str:
    if not folder.exists():
        raise InputError(f"{folder} does not exist")
    require_regular(folder)
    names = sorted(set(files(folder)), key=lambda name: name.split("/"))
    if not names:
        raise InputError(f"folder {folder} holds no files of a checkpoint")
    try:
        digest = digest_files(folder, names)
    except FileNotFoundError as error:
        raise CheckpointError(f"{error.filename} is missing, and the checkpoint is read from it") from None
    if ADAPTER_CONFIG not in names:
        return digest
    return digest_json([digest, _base_of(folder, above)])


def _base_of(folder: Path, above: tuple[Path, ...]) -> str:
    """What an adapter's base is, as text that changes when it does; empty where none is named."""
    config = folder / ADAPTER_CONFIG
    base, revision = _named_base(config)
    path = Path(base)
    if base and path.is_dir():
        if path.resolve() in (*above, folder.resolve()):
            raise CheckpointError(f"{config} names a base that is its own adapter: name the base model")
        return _digest(path, LEFT_OUT.files, (*above, folder.resolve()))
    if base and not _HUB_ID.fullmatch(base):
        raise CheckpointError(f"{config} names the base {base}, which does not exist here: put it there, or merge it")
    return f"{base}@{revision}" if base else ""


def _named_base(config: Path) -> tuple[str, str]:
    """The base of an adapter and its revision; empty where none is named."""
    try:
        named = read_json(config)
        return str(named.get("base_model_name_or_path") or ""), str(named.get("revision") or "main")
    except (ValueError, AttributeError) as error:
        raise CheckpointError(f"{config} is not a JSON object ({first_line(error, 160)})") from None
