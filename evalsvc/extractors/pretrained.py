"""Models in the format of ``transformers``: from a folder, or from a hub by id, with a digest of what was loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evalsvc.digests import digest_json, digest_path
from evalsvc.errors import InputError

FILES = ("*.safetensors", "*.json", "*.txt", "*.model")


def open_pretrained(kind: str, where: str, who: str, extra: str) -> tuple[Any, str, Path]:
    """A model of the ``transformers`` class ``kind``, its digest, and its folder.

    Weights are read from safetensors alone, configurations decide nothing but shapes, and no code is taken from the
    folder or the hub. What is missing is an error that says where to put it.
    """
    try:
        import transformers
    except ImportError:
        raise InputError(f"extractor {who!r} needs its extra: pip install 'evalsvc[{extra}]'") from None
    folder = Path(where) if Path(where).is_dir() else _from_hub(where, who)
    weights = sorted(folder.glob("*.safetensors"))
    if not weights or not (folder / "config.json").is_file():
        raise InputError(
            f"{folder} holds no model for extractor {who!r}: a folder with config.json and *.safetensors is "
            "expected, as save_pretrained writes it"
        )
    try:
        model = getattr(transformers, kind).from_pretrained(folder, local_files_only=True, use_safetensors=True)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{folder} could not be loaded as {kind} for extractor {who!r} ({reason[:200]})") from None
    digest = digest_json([[path.name, digest_path(path)] for path in [folder / "config.json", *weights]])
    return model.eval().requires_grad_(False), digest, folder


def _from_hub(where: str, who: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(where, allow_patterns=list(FILES)))
    except Exception as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"extractor {who!r}: {where!r} is no folder here and could not be fetched from the hub ({reason[:160]}); "
            "download it elsewhere and give the folder as its option 'model'"
        ) from None
