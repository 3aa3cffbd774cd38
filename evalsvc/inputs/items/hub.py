"""Datasets of the Hugging Face hub: the Parquet files of one split, downloaded by ``huggingface_hub``."""

from __future__ import annotations

from pathlib import Path

from evalsvc.core.errors import InputError, first_line
from evalsvc.inputs.items.schema import HUB
from evalsvc.inputs.items.splits import files_of_split

CONVERTED = "refs/convert/parquet"
"""The revision in which the hub keeps Parquet files of datasets of other formats."""


def download_split(name: str, split: str, revision: str) -> list[Path]:
    """The local files of a split of ``hub:org/name``; the revision is that of the hub's default branch by default.

    Raises:
        InputError: ``huggingface_hub`` is missing, the hub cannot be reached, or has no such dataset or split.
    """
    try:
        import huggingface_hub as hub
    except ImportError:
        raise InputError(
            f"{name} needs the package huggingface_hub: install it with 'pip install huggingface_hub'"
        ) from None
    repository = name.removeprefix(HUB)
    try:
        for branch in [revision] if revision else [None, CONVERTED]:
            info = hub.HfApi().dataset_info(repository, revision=branch)
            files = [each.rfilename for each in info.siblings or () if each.rfilename.endswith(".parquet")]
            if files:
                break
        if not files:
            raise InputError(f"{name} contains no Parquet files: download it and name a file in 'items'")
        return [
            Path(hub.hf_hub_download(repository, file, repo_type="dataset", revision=info.sha))
            for file in files_of_split(files, split, name)
        ]
    except InputError:
        raise
    except Exception as error:  # the HTTP library of the hub's package has errors of its own, and changes
        raise InputError(
            f"cannot read {name} from the hub ({first_line(error, 200)}): check the name, revision and network, "
            "log in with 'hf auth login' if it is gated, or download it and name a file"
        ) from error
