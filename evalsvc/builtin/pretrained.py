"""Pretrained models of ``transformers``: from a folder, or from the hub by id, with a digest of their weights."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any

from evalsvc.core.digests import CONTENTS, digest_json, digest_path
from evalsvc.core.errors import CheckpointError, InputError
from evalsvc.inputs.checkpoint_folders import digest_unchanged
from evalsvc.inputs.model_size import measure_folder, no_larger_than
from evalsvc.inputs.weight_sets import MODEL, weight_set
from evalsvc.metrics.lazy_torch import torch

NO_CODE: dict[str, Any] = {"trust_remote_code": False}
"""Disables the question of ``transformers`` whether to run code of the folder."""

_OFFLINE = RLock()
FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")


def open_pretrained(kind: str, where: str, who: str, extra: str, **options: Any) -> tuple[Any, str, Path]:
    """A model of the ``transformers`` class ``kind``, its digest, and its folder.

    Weights are read from safetensors only, configurations only determine shapes, and no code of the folder or the hub
    is executed. Errors about missing files name their place and the plug-in that needs them (``extractor 'clip'``).
    """
    transformers = require_transformers(who, extra)
    transformers.utils.logging.disable_progress_bar()  # our own progress is shown
    options.setdefault("dtype", torch.float32)  # else the dtype of the file: half precision labeled as float32
    folder = pretrained_folder(where, who)
    model = load_pretrained(getattr(transformers, kind), folder, who, **NO_CODE, **options)
    files = sorted(folder.glob("*.safetensors"))  # all files, so that protocols do not change
    digest = digest_json([[path.name, digest_path(path)] for path in [folder / "config.json", *files]])
    return model, digest, folder


def require_transformers(who: str, extra: str) -> Any:
    """The module ``transformers``; an error names the extra that installs it."""
    try:
        import transformers
    except ImportError:
        raise InputError(f"{who} needs its extra: pip install 'evalsvc[{extra}]'") from None
    return transformers


def pretrained_folder(where: str, who: str) -> Path:
    """The folder ``where``, or that of a hub id."""
    return Path(where) if Path(where).is_dir() else from_hub(where, who)


def load_pretrained(factory: Any, folder: Path, who: str, *, stem: str = MODEL, **options: Any) -> Any:
    """A model of a class of ``transformers`` or ``diffusers``: complete, from safetensors, without executing code.

    ``stem`` begins the names of its weights, as in :func:`evalsvc.inputs.weight_sets.weight_set`.

    Raises:
        InputError: the folder has no weights, lacks some, or they do not fit its configuration.
        CheckpointError: a file is damaged, or describes a model that is larger than its weights.
    """
    measure_folder(folder)
    weights = weight_set(folder, who, stem=stem)
    _refuse_kernels(folder, who)
    try:
        with offline(), no_larger_than(folder, weights):
            model, report = factory.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, output_loading_info=True, **options
            )
    except InputError:
        raise
    except (
        Exception
    ) as error:  # transformers raises errors of many types for hostile configurations: TypeError, AttributeError, ...
        reason = " ".join(str(error).split())
        raise InputError(f"cannot load {folder} as {factory.__name__} for {who} ({reason[:200]})") from None
    # Missing weights are initialized randomly, which is only logged.
    if missing := sorted({*report["missing_keys"], *(str(key) for key in report["mismatched_keys"])}):
        raise InputError(f"{folder} lacks weights that {who} needs: {missing[0]}, the first of {len(missing)}")
    return model.eval().requires_grad_(False)


def open_tokenizer(folder: Path, who: str) -> Any:
    """The tokenizer of a model; a missing or unreadable tokenizer raises an error."""
    from transformers import AutoTokenizer

    try:
        with offline():
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, **NO_CODE)
    except Exception as error:  # the tokenizers library raises plain Exception
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"{folder} has no tokenizer that loads for {who} ({reason})") from None
    # If its files are missing, transformers creates a default that maps all words to one token.
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        raise InputError(
            f"{folder} has no tokenizer for {who}: put its tokenizer.json (or its vocabulary) beside the weights"
        )
    return tokenizer


@contextmanager
def offline() -> Iterator[None]:
    """Disable the hub inside the block, for all libraries: names in the files of a folder are not looked up."""
    from huggingface_hub import constants

    with _OFFLINE:
        before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
        try:
            yield
        finally:
            constants.HF_HUB_OFFLINE = before


def _refuse_kernels(folder: Path, who: str) -> None:
    """Refuse a configuration that names a hub repository or path with code for its attention."""
    try:
        implementations = list(_implementations(json.loads((folder / "config.json").read_bytes())))
    except (OSError, ValueError, RecursionError):  # loading reports the error
        return
    for name in implementations:
        if "/" in name or "\\" in name:
            raise CheckpointError(
                f"{folder / 'config.json'} names code to execute ({name!r}), which {who} does not run: remove it"
            )


def _implementations(config: Any) -> Iterator[str]:
    for key, value in config.items() if isinstance(config, dict) else ():
        if key.strip("_").startswith(("attn_implementation", "experts_implementation")):
            names = value.values() if isinstance(value, dict) else [value]
            yield from (name for name in names if isinstance(name, str))
        yield from _implementations(value)


def from_hub(where: str, who: str, files: Sequence[str] = FILES) -> Path:
    """The folder of a hub id (``org/name`` or ``org/name@revision``), downloaded or cached, without pickles and code.

    Its name is the commit of the revision, the default branch's if there is none. Only files whose names match
    ``files`` are downloaded.
    """
    from huggingface_hub import snapshot_download

    name, _, revision = where.partition("@")
    try:
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=list(files)))
    except Exception as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{who}: {where!r} is not a folder and could not be downloaded from the hub ({reason[:160]}): "
            "download it elsewhere and pass the folder"
        ) from None


def pin_models(
    options: Mapping[str, Any], names: Iterable[str], who: str, files: Sequence[str] = FILES
) -> dict[str, Any]:
    """Options of which those in ``names`` identify a model: by absolute path and digest, or by hub id and commit.

    A generator whose options name models calls it in its method ``pin`` (see :class:`evalsvc.plugins.Generator`).

    Raises:
        InputError: an option names neither a file, a folder nor a model of the hub.
    """
    pinned, contents = dict(options), dict[str, str]()
    for name in names:
        if not (where := str(options.get(name) or "")):
            continue
        path = Path(where).resolve()
        if path.exists():
            pinned[name], contents[name] = str(path), digest_unchanged(path)
        else:
            pinned[name] = f"{where.partition('@')[0]}@{from_hub(where, who, files).name}"
    return pinned | ({CONTENTS: contents} if contents else {})
