"""Loading of causal language models: a folder of ``transformers``, a hub id, or a GGUF file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from evalsvc.builtin.language_models.gguf import converted
from evalsvc.builtin.pretrained import from_hub, open_pretrained, open_tokenizer
from evalsvc.core.digests import digest_json, digest_path
from evalsvc.core.errors import InputError
from evalsvc.inputs import published_weights as published
from evalsvc.inputs.weight_sets import weight_set

Dtype = Literal["float32", "float64", "bfloat16", "float16"]
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
    def open(cls, where: str, device: torch.device, dtype: Dtype, who: str, *, judged: bool = False) -> LanguageModel:
        """Load weights (only safetensors or GGUF, without executing code) and tokenizer, and digest both.

        ``where`` is a path, a hub id, or the name of published weights (``smollm2``); ``who`` is named in errors:
        ``generator 'causal-lm'``. The folder of a ``judged`` model must not contain other weights.
        """
        if dtype not in DTYPES:
            raise InputError(f"invalid option dtype={dtype!r} of {who}: use {' or '.join(DTYPES)}")
        path = published.locate(published.get(where)) if where in published.WEIGHTS else Path(where)
        if path.is_file():
            if path.suffix != ".gguf":
                raise InputError(f"{path} is neither a folder of transformers nor a .gguf file")
            weights, folder = path.name, converted(path)
        else:
            folder = path if path.is_dir() else from_hub(where, who)
            weights = str(weight_set(folder, who, judged=judged))
        network, digest, _ = open_pretrained("AutoModelForCausalLM", str(folder), who, "text", dtype=DTYPES[dtype])
        tokenizer = open_tokenizer(folder, who)
        files = [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]
        return cls(
            name=path.name,
            weights=weights,
            network=network.to(device),
            tokenizer=tokenizer,
            digest=digest,
            tokenizer_digest=digest_json([[file.name, digest_path(file)] for file in files]),
            device=device,
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
