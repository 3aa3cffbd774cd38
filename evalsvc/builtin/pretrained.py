"""Models in the format of ``transformers``: from a folder, or from a hub by id, with a digest of what was loaded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any

from evalsvc.core.digests import digest_json, digest_path
from evalsvc.core.errors import CheckpointError, InputError
from evalsvc.inputs.model_size import measure_folder, no_larger_than
from evalsvc.inputs.weight_sets import weight_set
from evalsvc.metrics.lazy_torch import torch

NO_CODE = {"trust_remote_code": False}
"""Unset, ``transformers`` asks whoever sits at the terminal whether to run the code of the folder."""

_OFFLINE = RLock()
FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")


def open_pretrained(kind: str, where: str, who: str, extra: str, **options: Any) -> tuple[Any, str, Path]:
    """A model of the ``transformers`` class ``kind``, its digest, and its folder.

    Weights are read from safetensors alone, configurations decide nothing but shapes, and no code is taken from the
    folder or the hub. What is missing is an error that says where to put it, and who (``extractor 'clip'``) wants it.
    """
    try:
        import transformers
    except ImportError:
        raise InputError(f"{who} needs its extra: pip install 'evalsvc[{extra}]'") from None
    transformers.utils.logging.disable_progress_bar()  # ours is shown
    options.setdefault("dtype", torch.float32)  # else that of the file, in half precision under float32's name
    folder = Path(where) if Path(where).is_dir() else from_hub(where, who)
    measure_folder(folder)
    weights = weight_set(folder, who)
    _refuse_kernels(folder, who)
    try:
        with offline(), no_larger_than(folder, weights):
            model, report = getattr(transformers, kind).from_pretrained(
                folder, local_files_only=True, use_safetensors=True, output_loading_info=True, **NO_CODE, **options
            )
    except InputError:
        raise
    except Exception as error:  # a hostile configuration meets transformers unprepared: TypeError, AttributeError, ...
        reason = " ".join(str(error).split())
        raise InputError(f"{folder} could not be loaded as {kind} for {who} ({reason[:200]})") from None
    # What a file lacks, transformers fills with random numbers and says so in a log line.
    if missing := sorted({*report["missing_keys"], *(str(key) for key in report["mismatched_keys"])}):
        raise InputError(f"{folder} lacks weights that {who} needs, {missing[0]} the first of {len(missing)}")
    files = sorted(folder.glob("*.safetensors"))  # all of them, so that protocols stay what they were
    digest = digest_json([[path.name, digest_path(path)] for path in [folder / "config.json", *files]])
    return model.eval().requires_grad_(False), digest, folder


def open_tokenizer(folder: Path, who: str) -> Any:
    """The tokenizer beside a model; one that cannot be read, or is not there, is an error."""
    from transformers import AutoTokenizer

    try:
        with offline():
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, **NO_CODE)
    except Exception as error:  # of the tokenizers library, which raises no narrower kind
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"{folder} has no tokenizer that loads for {who} ({reason})") from None
    # Where its files are missing, transformers makes up one to which all words are the same.
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        raise InputError(
            f"{folder} has no tokenizer for {who}: put its tokenizer.json (or its vocabulary) beside the weights"
        )
    return tokenizer


@contextmanager
def offline() -> Iterator[None]:
    """Within, a folder is all there is: nothing that its files name is asked of the hub, by whatever library."""
    from huggingface_hub import constants

    with _OFFLINE:
        before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
        try:
            yield
        finally:
            constants.HF_HUB_OFFLINE = before


def _refuse_kernels(folder: Path, who: str) -> None:
    """A configuration may name a repository of the hub, or a path, whose code computes its attention: it is not run."""
    try:
        found = list(_implementations(json.loads((folder / "config.json").read_bytes())))
    except (OSError, ValueError, RecursionError):  # whoever loads it says what is wrong
        return
    for name in found:
        if "/" in name or "\\" in name:
            raise CheckpointError(
                f"{folder / 'config.json'} names code to compute with ({name!r}), which is not run for {who}: remove it"
            )


def _implementations(config: Any) -> Iterator[str]:
    for key, value in config.items() if isinstance(config, dict) else ():
        if key.strip("_").startswith(("attn_implementation", "experts_implementation")):
            names = value.values() if isinstance(value, dict) else [value]
            yield from (name for name in names if isinstance(name, str))
        yield from _implementations(value)


def from_hub(where: str, who: str) -> Path:
    """The folder of a hub id, downloaded or from the cache; without pickles and without code."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(where, allow_patterns=list(FILES)))
    except Exception as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{who}: {where!r} is no folder here and could not be fetched from the hub ({reason[:160]}); "
            "download it elsewhere and give the folder"
        ) from None
