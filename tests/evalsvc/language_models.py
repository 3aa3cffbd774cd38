"""Tiny language models with random weights, saved as people save theirs."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from evalsvc.builtin.demo.prose import PROSE

VOCABULARY = 400


def tokenizer(bos: bool = True, ends: bool = False) -> PreTrainedTokenizerFast:
    """Byte-level BPE of 400 tokens, trained on some prose; with ``ends``, texts end with a token, as those of T5."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator([(PROSE / "heldout.txt").read_text()[:20_000]], trainer)
    if ends:
        made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>" if bos else None, eos_token="</s>")


LLAMA = {
    **{"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4},
    **{"num_key_value_heads": 2, "max_position_embeddings": 64, "tie_word_embeddings": False},
}
BART = {
    **{"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "init_std": 0.2},
    **{"decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 64},
    **{"decoder_start_token_id": 1, "pad_token_id": 1},
}
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 2}
KINDS = {
    "llama": ("Llama", "ForCausalLM", LLAMA),
    "qwen": ("Qwen3", "ForCausalLM", LLAMA | {"head_dim": 8}),
    "gpt2": ("GPT2", "LMHeadModel", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}),
    "mamba": ("Mamba", "ForCausalLM", {"hidden_size": 32, "state_size": 8, "num_hidden_layers": 2}),
    "rwkv": ("Rwkv", "ForCausalLM", {"hidden_size": 32, "num_hidden_layers": 2, "context_length": 64}),
    "t5": ("T5", "ForConditionalGeneration", T5 | {"initializer_factor": 1.0, "pad_token_id": 2}),
    "bart": ("Bart", "ForConditionalGeneration", BART),
}


def network(kind: str, seed: int = 0, spread: float = 0.2) -> torch.nn.Module:
    """Two layers; ``spread`` makes logits that differ."""
    torch.manual_seed(seed)
    name, head, sizes = KINDS[kind]
    given = {"vocab_size": VOCABULARY, "initializer_range": spread, "bos_token_id": 0, "eos_token_id": 1, **sizes}
    config = getattr(transformers, f"{name}Config")(**given)
    made: torch.nn.Module = getattr(transformers, f"{name}{head}")(config)
    return made.eval()


def save(folder: Path, kind: str, seed: int = 0, bos: bool = True, spread: float = 0.2) -> Path:
    """A folder as ``save_pretrained`` writes it."""
    network(kind, seed, spread).save_pretrained(folder)
    tokenizer(bos, ends=kind in ("t5", "bart")).save_pretrained(folder)
    return folder
