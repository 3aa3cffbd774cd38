"""Tiny models as GGUF files, as llama.cpp's converter writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

LAYER = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
OUTER = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def write_gguf(
    path: Path,
    network: torch.nn.Module,
    coder: PreTrainedTokenizerFast,
    architecture: str = "llama",
    settings: dict[str, Any] | None = None,
    tensors: dict[str, np.ndarray] | None = None,
) -> Path:
    """A network of ``transformers`` (Llama- or Qwen-like) in float32, with more settings and tensors."""
    config: Any = network.config
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer = gguf.GGUFWriter(path, architecture)
    stored = {
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "block_count": config.num_hidden_layers,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "rope.dimension_count": head,
    }
    for name, value in (stored | (settings or {})).items():
        add = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}[type(value)]
        add(f"{architecture}.{name}", value)
    writer.add_float32(f"{architecture}.attention.layer_norm_rms_epsilon", config.rms_norm_eps)
    writer.add_float32(f"{architecture}.rope.freq_base", float(config.rope_parameters["rope_theta"]))
    _add_tokenizer(writer, coder)
    for name, tensor in network.state_dict().items():
        outer, _, kind = name.rpartition(".")
        array = tensor.numpy()
        if outer.startswith("model.layers."):
            _, _, layer, part = outer.split(".", 3)
            heads = {"self_attn.q_proj": config.num_attention_heads, "self_attn.k_proj": config.num_key_value_heads}
            if architecture == "llama" and part in heads:  # neighboring rows are rotated, not halves
                array = array.reshape(heads[part], 2, head // 2, -1).swapaxes(1, 2).reshape(array.shape)
            writer.add_tensor(f"blk.{layer}.{LAYER[part]}.{kind}", array)
        else:
            writer.add_tensor(f"{OUTER[outer]}.{kind}", array)
    for name, array in (tensors or {}).items():
        writer.add_tensor(name, array)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        step()
    writer.close()
    return path


def _add_tokenizer(writer: gguf.GGUFWriter, coder: PreTrainedTokenizerFast) -> None:
    made = json.loads(coder.backend_tokenizer.to_str())["model"]
    special = set(coder.all_special_tokens)
    tokens = sorted(coder.get_vocab(), key=coder.get_vocab().__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL if token in special else gguf.TokenType.NORMAL for token in tokens])
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in made["merges"]])
    writer.add_bos_token_id(coder.bos_token_id)
    writer.add_eos_token_id(coder.eos_token_id)
