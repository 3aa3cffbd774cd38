"""Train the text demo's character transformer and write its checkpoints: ``python -m evalsvc.builtin.demo.train_text``.

A Llama of 230,000 parameters over bytes, trained on the training split of the reference ``prose``; and, with another
seed, the scorer of its samples. Training is seeded and single-threaded; about ten minutes for both.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from evalsvc.builtin.demo.prose import prose_reference
from evalsvc.builtin.demo.text import TEXT_WEIGHTS
from evalsvc.builtin.demo.train import descend
from evalsvc.plugins.samples import Texts

CONTEXT, WINDOW, BATCH = 512, 192, 16
STEPS: dict[str, tuple[int, ...]] = {"char-transformer": (0, 100, 300, 600, 1200), "char-scorer": (400,)}
SEEDS = {"char-transformer": 0, "char-scorer": 1}


def byte_tokenizer() -> Any:
    """One token per byte, so that any text can be encoded, with tokens for the beginning and the end of a text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate(["<s>", "</s>", *alphabet])}
    made = Tokenizer(models.BPE(vocabulary, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>")


def transformer(vocabulary: int) -> Any:
    """Three layers of width 80, as a ``transformers`` model."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=80,
        intermediate_size=208,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        initializer_range=0.05,
        bos_token_id=0,
        eos_token_id=1,
    )
    return LlamaForCausalLM(config)


def train(name: str, out: Path) -> None:
    """Train one of the two models and write it after each of its steps."""
    torch.set_num_threads(1)
    torch.manual_seed(SEEDS[name])
    tokenizer, last = byte_tokenizer(), max(STEPS[name])
    stream = _stream(tokenizer)
    network = transformer(len(tokenizer))
    optimizer = torch.optim.AdamW(network.parameters(), 4e-3, weight_decay=0.1, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, last + 1, pct_start=0.05)
    for step in range(last + 1):
        if step in STEPS[name]:
            _save(network, tokenizer, out / name / f"step_{step}")
        starts = torch.randint(len(stream) - WINDOW - 1, (BATCH, 1))
        tokens = stream[starts + torch.arange(WINDOW + 1)]
        logits = network(input_ids=tokens[:, :-1], use_cache=False).logits
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        descend(optimizer, loss)
        schedule.step()
        if step % 100 == 0:
            print(f"{name} {step} {loss.item():.3f}", file=sys.stderr, flush=True)  # noqa: T201


def _stream(tokenizer: Any) -> Tensor:
    """All training documents as one sequence, each between a beginning and an end token."""
    split = prose_reference().train
    texts = split.read(0, len(split))
    assert isinstance(texts, Texts)
    tokens = [np.array([0, *tokenizer(text, add_special_tokens=False)["input_ids"], 1]) for text in texts.items]
    return torch.from_numpy(np.concatenate(tokens))


def _save(network: Any, tokenizer: Any, folder: Path) -> None:
    """Save in half precision; loading converts back."""
    import copy

    copy.deepcopy(network).half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the named models, or both."""
    parser = argparse.ArgumentParser(prog="python -m evalsvc.builtin.demo.train_text", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(STEPS))
    parser.add_argument("--out", type=Path, default=TEXT_WEIGHTS, help="folder to write to (default: %(default)s)")
    options = parser.parse_args(arguments)
    for name in options.names or STEPS:
        train(name, options.out)


if __name__ == "__main__":
    main()
