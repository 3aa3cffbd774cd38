"""Loading of causal language models: a folder of ``transformers``, a hub id, or a GGUF file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from evalsvc.builtin.language_models.adapters import apply_adapter, base_of, require_same_tokens
from evalsvc.builtin.language_models.attention import use_fused_kernel
from evalsvc.builtin.language_models.gguf import converted
from evalsvc.builtin.pretrained import from_hub, open_pretrained, open_tokenizer
from evalsvc.core.digests import digest_json, digest_path
from evalsvc.core.errors import InputError
from evalsvc.core.files.json_files import read_json
from evalsvc.inputs import published_weights as published
from evalsvc.inputs.weight_sets import is_adapter, weight_set

CAUSAL, ENCODER_DECODER = "AutoModelForCausalLM", "AutoModelForSeq2SeqLM"
"""Classes of ``transformers``."""
Dtype = Literal["float32", "float64", "bfloat16", "float16"]
Quantization = Literal["8bit", "4bit"]
DeviceMap = str | dict[str, Any]
DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
)


@dataclass(frozen=True)
class LanguageModel:
    """A network with its tokenizer. ``context`` is its maximum number of tokens, if known.

    ``weights`` names the loaded weights: a file, or an index with its number of shards.
    """

    name: str
    weights: str
    network: Any
    tokenizer: Any
    digest: str
    tokenizer_digest: str
    device: torch.device
    dtype: Dtype
    context: int | None

    @classmethod
    def open(
        cls,
        where: str,
        device: torch.device,
        dtype: Dtype,
        who: str,
        *,
        kind: str = CAUSAL,
        judged: bool = False,
        base: str = "",
        quantization: Quantization | None = None,
        device_map: DeviceMap | None = None,
    ) -> LanguageModel:
        """Load weights (only safetensors or GGUF, without executing code) and tokenizer, and digest both.

        ``where`` is a path, a hub id, or the name of published weights (``smollm2``); ``who`` is named in errors:
        ``generator 'causal-lm'``. The folder of a ``judged`` model must not contain other weights; it may be an
        adapter, over the ``base`` that it names or that is given. ``kind`` is a class of ``transformers``, which gets
        ``quantization`` and ``device_map``.
        """
        if dtype not in DTYPES:
            raise InputError(f"invalid option dtype={dtype!r} of {who}: use {' or '.join(DTYPES)}")
        path = published.locate(published.get(where)) if where in published.WEIGHTS else Path(where)
        adapter = path if judged and path.is_dir() and is_adapter(path) else None
        if base and not adapter:
            raise InputError(f"option base of {who} is for adapters, but {path} is a model: omit it")
        folder, weights = _weights_of(base_of(path, base, who) if adapter else path, who, judged and not adapter)
        _require_kind(folder, kind, who)
        passed = _passed_through(quantization, device_map, device, who)
        network, digest, _ = open_pretrained(kind, str(folder), who, "text", dtype=DTYPES[dtype], **passed)
        if adapter:
            digest = digest_json([digest, apply_adapter(network, adapter, who)])
            weights = f"adapter_model.safetensors over {folder.name}/{weights}"
        given = {"quantization": quantization, "device_map": device_map}
        untested = [f"{name} {value} (untested)" for name, value in given.items() if value]
        tokenizer = open_tokenizer(folder, who)
        if adapter and any((adapter / name).is_file() for name in TOKENIZER_FILES):
            of_base, tokenizer = tokenizer, open_tokenizer(adapter, who)
            require_same_tokens(tokenizer.get_vocab(), of_base.get_vocab(), adapter, who)
            if not _tokenize_alike(of_base, tokenizer):
                folder = adapter
        use_fused_kernel(network, network.device if passed else device)
        files = [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]
        return cls(
            name=path.name,
            weights=", ".join([weights, *untested]),
            network=network if passed else network.to(device),
            tokenizer=tokenizer,
            digest=digest,
            tokenizer_digest=digest_json([[file.name, digest_path(file)] for file in files]),
            device=network.device if passed else device,
            dtype=dtype,
            context=getattr(network.config, "max_position_embeddings", None),
        )

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of each text, without special tokens."""
        for number, text in enumerate(texts):
            try:
                text.encode()
            except UnicodeEncodeError:
                raise InputError(f"document {number} contains a lone surrogate, which is not valid text") from None
        if not texts:
            return []
        tokens: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
        rows = self.network.get_input_embeddings().weight.shape[0]
        if len(self.tokenizer) > rows and any(max(each, default=0) >= rows for each in tokens):
            raise InputError(
                f"the tokenizer of {self.name} makes tokens that its model has no embedding of ({len(self.tokenizer)} "
                f"tokens, {rows} embeddings): use the tokenizer that the model was trained with"
            )
        return tokens

    def prefix(self, name: str, who: str) -> list[int]:
        """Tokens before every document: ``bos``, ``eos``, ``none``, or a token by its text."""
        if name == "none":
            return []
        special = {"bos": self.tokenizer.bos_token_id, "eos": self.tokenizer.eos_token_id}
        if name in special:
            token = special[name]
        else:
            token = self.tokenizer.get_vocab().get(name)
        if token is None:
            others = [other for other, number in special.items() if number is not None]
            asked = name.upper() if name in special else repr(name)
            raise InputError(
                f"the tokenizer of {self.name} has no {asked} token for {who}: "
                f"set prefix to {' or '.join([*others, 'none'])} (with none, a document's first token is not scored)"
            )
        return [int(token)]


def _weights_of(where: Path, who: str, judged: bool) -> tuple[Path, str]:
    """The folder of a model, and the name of its weights."""
    if where.is_file():
        if where.suffix != ".gguf":
            raise InputError(f"{where} is neither a folder of transformers nor a .gguf file")
        return converted(where), where.name
    folder = where if where.is_dir() else from_hub(str(where), who)
    commit = f" of commit {folder.name}" if folder.parent.name == "snapshots" else ""
    return folder, f"{weight_set(folder, who, judged=judged)}{commit}"


def _tokenize_alike(one: Any, other: Any) -> bool:
    """Whether two tokenizers make the same tokens: then scores of a base and of its adapter have one protocol."""
    if not (hasattr(one, "backend_tokenizer") and hasattr(other, "backend_tokenizer")):
        return False
    same = bool(one.backend_tokenizer.to_str() == other.backend_tokenizer.to_str())
    return same and one.special_tokens_map == other.special_tokens_map


def _require_kind(folder: Path, kind: str, who: str) -> None:
    """Refuse encoder-decoders as causal models, of which ``transformers`` would load the decoder, and vice versa."""
    try:
        encodes = bool(read_json(folder / "config.json").get("is_encoder_decoder"))
    except (OSError, ValueError, AttributeError):  # loading reports the error
        return
    if encodes != (kind == ENCODER_DECODER):
        what, other = ("an encoder-decoder", "seq2seq-lm") if encodes else ("a decoder alone", "causal-lm")
        raise InputError(f"{folder} is {what}, which {who} does not read: use generator {other!r}")


def _passed_through(
    quantization: Quantization | None, device_map: DeviceMap | None, device: torch.device, who: str
) -> dict[str, Any]:
    """Arguments of ``transformers`` for quantization, and for the devices of parts of the model."""
    if quantization not in (None, *get_args(Quantization)):
        raise InputError(f"invalid option quantization={quantization!r} of {who}: use 8bit or 4bit")
    if quantization and find_spec("bitsandbytes") is None:
        raise InputError(f"option quantization of {who} needs the package bitsandbytes: pip install bitsandbytes")
    if (quantization or device_map) and find_spec("accelerate") is None:
        raise InputError(f"option device_map of {who} needs the package accelerate: pip install accelerate")
    passed: dict[str, Any] = {}
    if quantization or device_map:
        passed["device_map"] = device_map or {"": str(device)}
    if quantization:
        from transformers import BitsAndBytesConfig

        passed["quantization_config"] = BitsAndBytesConfig(**{f"load_in_{quantization}": True})
    return passed
