"""GGUF files as ``transformers`` folders: dequantized once by its own reader, then cached as safetensors."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock

from evalsvc.builtin.language_models.gguf_settings import complete
from evalsvc.core.digests import digest_json, digest_path
from evalsvc.core.errors import CheckpointError, EvalsvcError, InputError
from evalsvc.core.sandbox import restrictions
from evalsvc.inputs.published_weights import weights_folder

_FILE_ALONE = {"local_files_only": True, "trust_remote_code": False}
CONVERTER = 2
"""Raise it if the same file may be converted to another model."""
SLOWNESS = 4
"""Wall time of a conversion on a busy machine, as a multiple of its CPU time."""
LONGEST_REASON = 1000
"""Maximum length of a reason in characters."""


def converted(path: Path) -> Path:
    """The folder with the same model in float32; concurrent processes wait for the first one to write it."""
    key = digest_json([digest_path(path), CONVERTER, version("transformers")])
    folder = weights_folder().parent / "gguf" / key[:32]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not folder.is_dir():
            partial = folder.with_name(f".tmp-{uuid.uuid4().hex}")
            try:
                _convert_apart(path, partial)
                partial.replace(folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    return folder


def _convert_apart(path: Path, folder: Path) -> None:
    """Convert in a separate process with limited memory, since a hostile file may request any amount.

    The process has its own session and no terminal, and its descendants are killed with it.
    """
    command = [
        sys.executable,
        "-P",
        "-m",
        "evalsvc.builtin.language_models.gguf",
        str(path.resolve()),
        str(folder.resolve()),
    ]
    seconds = SLOWNESS * _seconds(path.stat().st_size)
    process = subprocess.Popen(
        command,
        env=restrictions.environment() | restrictions.import_path(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        raise CheckpointError(f"{path} was not converted within {seconds} s and was given up") from None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.returncode:
        reason = output.decode(errors="replace").strip()[:LONGEST_REASON]
        raise CheckpointError(reason or f"reading {path} crashed the process that read it: it is damaged or malicious")


def _seconds(size: int) -> int:
    """CPU seconds for a file of this size."""
    return 120 + size // 1_000_000


def _main(path: Path, folder: Path) -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"  # before the first import: names in the file must not be looked up on the hub
    size = path.stat().st_size
    # Weights of two bits become 32; the model, its weights and the output are in memory at once.
    restrictions.limit(48 * size + 2**30, _seconds(size), 16 * size + 2**29)
    try:
        _convert(path, folder)
    except (EvalsvcError, MemoryError) as error:
        message = (
            str(error) if isinstance(error, EvalsvcError) else f"{path} needs far more memory than its size allows"
        )
        sys.stdout.write(message)
        sys.exit(1)


def _open(path: Path) -> Any:
    """Open the format's reader with a check of lengths, since by default it reads beyond the end of the file."""
    from gguf import GGUFReader

    class WholeReader(GGUFReader):
        def _get(self, offset: int, dtype: Any, count: int = 1, *order: Any, **more: Any) -> Any:
            if int(offset) + np.dtype(dtype).itemsize * int(count) > len(self.data):
                raise ValueError(f"it declares {int(count)} values beyond its end")
            self.data: Any = np.asarray(self.data)  # slices of a memmap cost ten times as much, and there are millions
            return super()._get(offset, dtype, count, *order, **more)

    return WholeReader(path)


@contextmanager
def _parsed_once(reader: Any) -> Iterator[None]:
    """``transformers`` uses this reader of the file, instead of parsing its vocabulary three times more."""
    import gguf

    module: Any = gguf
    before, module.GGUFReader = module.GGUFReader, lambda _path: reader
    try:
        yield
    finally:
        module.GGUFReader = before


def _convert(path: Path, folder: Path) -> None:
    try:
        import gguf  # noqa: F401
        from transformers import AutoTokenizer
    except ImportError:
        raise InputError(f"{path} is a GGUF file, which needs its extra: pip install 'evalsvc[smollm2]'") from None
    try:
        reader = _open(path)
        known = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("tokenizer.")}
    except (ValueError, IndexError, KeyError, OSError) as error:
        raise CheckpointError(f"{path} is truncated or not a GGUF file ({str(error)[:160]})") from None
    if known.get("general.type") == "adapter":
        raise InputError(
            f"{path} is an adapter, which is not supported: merge it into its base first (llama-export-lora)"
        )
    if int(known.get("split.count", 1)) > 1:
        raise InputError(
            f"{path} is part {int(known['split.no']) + 1} of {known['split.count']}: merge the parts first "
            "(llama-gguf-split --merge)"
        )
    try:
        with _parsed_once(reader):
            model = _model(path, {tensor.name: tensor for tensor in reader.tensors}, known)
            tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, **_FILE_ALONE)
    except MemoryError:
        raise
    except Exception as error:  # of many types, for files of many makers
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"transformers cannot read {path} as GGUF ({reason}): use the folder that it was made of"
        ) from None
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _model(path: Path, tensors: dict[str, Any], known: dict[str, Any]) -> Any:
    """The model in float32 as ``transformers`` reads it, with the settings of the file that its reader leaves out.

    Raises:
        ValueError: the file has settings or tensors that the model does not follow.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, GgufConfig

    config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name, **_FILE_ALONE)
    config.pad_token_id = None  # the tokenizer's, as are the others
    for name in ("_model_name_or_path", "unk_token_id"):
        vars(config).pop(name, None)
    used = complete(config, tensors, known)
    model, report = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, config=config, dtype=torch.float32,
        quantization_config=GgufConfig(dequantize=True), output_loading_info=True, **_FILE_ALONE,
    )  # fmt: skip
    if missing := sorted({*report["missing_keys"], *map(str, report["mismatched_keys"])}):
        raise ValueError(f"it lacks {missing[0]}, the first of {len(missing)}")
    if getattr(config, "tie_word_embeddings", False):
        used.add("output.weight")  # which some converters write twice
    stored = sum(int(tensor.n_elements) for name, tensor in tensors.items() if name not in used)
    if stored != model.num_parameters():
        raise ValueError(f"it has {stored:,} parameters, and the model that is made of it {model.num_parameters():,}")
    return model


if __name__ == "__main__":
    _main(*map(Path, sys.argv[1:]))
