"""Datasets of the Hugging Face hub: the Parquet files of one split, downloaded by ``huggingface_hub``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evalsvc.core.errors import InputError, first_line
from evalsvc.inputs.items.schema import HUB
from evalsvc.inputs.items.splits import files_of_split, split_of

CONVERTED = "refs/convert/parquet"
"""The revision in which the hub keeps Parquet files of datasets of other formats."""


def download_split(name: str, split: str, revision: str) -> list[Path]:
    """The local files of a split of ``hub:org/name``; the revision is that of the hub's default branch by default.

    Raises:
        InputError: ``huggingface_hub`` is missing, the hub cannot be reached, or has no such dataset or split.
    """
    with _hub(name) as hub:
        repository, commit, files = _files(hub, name, split, revision)
        return [Path(hub.hf_hub_download(repository, file, repo_type="dataset", revision=commit)) for file in files]


def download_snapshot(name: str, split: str) -> tuple[Path, str]:
    """The local folder with a split of ``hub:org/name`` or ``hub:org/name@revision``, and the name of the split.

    The folder is one of a commit, and other splits may come to it. Raises like :func:`download_split`.
    """
    with _hub(name) as hub:
        repository, _, revision = name.partition("@")
        repository, commit, files = _files(hub, repository, split, revision)
        folder = hub.snapshot_download(repository, repo_type="dataset", revision=commit, allow_patterns=files)
        return Path(folder), split_of(files[0])


def _files(hub: Any, name: str, split: str, revision: str) -> tuple[str, str, list[str]]:
    """Repository, commit and names of the Parquet files of a split."""
    repository = name.removeprefix(HUB)
    for branch in [revision] if revision else [None, CONVERTED]:
        info = hub.HfApi().dataset_info(repository, revision=branch)
        files = [each.rfilename for each in info.siblings or () if each.rfilename.endswith(".parquet")]
        if files:
            return repository, info.sha, files_of_split(files, split, name)
    raise InputError(f"{name} contains no Parquet files: download it and name a file")


@contextmanager
def _hub(name: str) -> Iterator[Any]:
    try:
        import huggingface_hub
    except ImportError:
        raise InputError(
            f"{name} needs the package huggingface_hub: install it with 'pip install huggingface_hub'"
        ) from None
    try:
        yield huggingface_hub
    except InputError:
        raise
    except Exception as error:  # the HTTP library of the hub's package has errors of its own, and changes
        raise InputError(
            f"cannot read {name} from the hub ({first_line(error, 200)}): check the name, revision and network, "
            "log in with 'hf auth login' if it is gated, or download it and name a file"
        ) from error
