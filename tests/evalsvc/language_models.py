"""Tiny causal language models with random weights, saved as people save theirs."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from evalsvc.builtin.demo.prose import PROSE

VOCABULARY = 400


def tokenizer(bos: bool = True) -> PreTrainedTokenizerFast:
    """Byte-level BPE of 400 tokens, trained on some prose; any text has tokens and comes back from them."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator([(PROSE / "heldout.txt").read_text()[:20_000]], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>" if bos else None, eos_token="</s>")


def network(kind: str, seed: int = 0, spread: float = 0.2) -> torch.nn.Module:
    """Two layers; ``spread`` makes logits that differ."""
    torch.manual_seed(seed)
    sizes = {"vocab_size": VOCABULARY, "initializer_range": spread, "bos_token_id": 0, "eos_token_id": 1}
    if kind in ("llama", "qwen"):
        sizes |= {
            "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "max_position_embeddings": 64, "tie_word_embeddings": False,
        }  # fmt: skip
        if kind == "llama":
            return LlamaForCausalLM(LlamaConfig(**sizes)).eval()
        return Qwen3ForCausalLM(Qwen3Config(head_dim=8, **sizes)).eval()
    return GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=64, **sizes)).eval()


def save(folder: Path, kind: str, seed: int = 0, bos: bool = True, spread: float = 0.2) -> Path:
    """A folder as ``save_pretrained`` writes it."""
    network(kind, seed, spread).save_pretrained(folder)
    tokenizer(bos).save_pretrained(folder)
    return folder
