"""GGUF files as ``transformers`` folders: dequantized once, then cached as safetensors.

``transformers`` can read GGUF itself, which takes about 30 CPU seconds for 135 M parameters each time. Files of the
Llama family, the most common, are converted here in a fraction of that; others use ``transformers``.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from evalsvc.core.digests import digest_path
from evalsvc.core.errors import CheckpointError, EvalsvcError, InputError
from evalsvc.core.sandbox import restrictions
from evalsvc.inputs.published_weights import weights_folder

_FILE_ALONE = {"local_files_only": True, "trust_remote_code": False}
_OUTER = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_LAYER = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
SLOWNESS = 4
"""Wall time of a conversion on a busy machine, as a multiple of its CPU time."""
LONGEST_REASON = 1000
"""Maximum length of a reason in characters."""


def converted(path: Path) -> Path:
    """The folder with the same model in float32; concurrent processes wait for the first one to write it."""
    digest = digest_path(path)
    folder = weights_folder().parent / "gguf" / digest[:32]
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
            return super()._get(offset, dtype, count, *order, **more)

    return WholeReader(path)


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
    if known["general.architecture"] == "llama" and "rope_freqs.weight" not in {t.name for t in reader.tensors}:
        model = _llama(reader, known)
    else:
        model = _by_transformers(path)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, **_FILE_ALONE).save_pretrained(folder)


def _by_transformers(path: Path) -> Any:
    from transformers import AutoModelForCausalLM

    try:
        return AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype=torch.float32, **_FILE_ALONE
        )
    except (ValueError, ImportError, OSError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"transformers cannot read {path} as GGUF ({reason})") from None


def _llama(reader: Any, known: dict[str, Any]) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    heads = int(known["llama.attention.head_count"])
    key_heads = int(known.get("llama.attention.head_count_kv", heads))
    state = dict(_tensors(reader, heads, key_heads))
    special = {name: reader.fields.get(f"tokenizer.ggml.{name}_token_id") for name in ("bos", "eos")}
    config = LlamaConfig(
        vocab_size=len(state["model.embed_tokens.weight"]),
        hidden_size=known["llama.embedding_length"],
        intermediate_size=known["llama.feed_forward_length"],
        num_hidden_layers=known["llama.block_count"],
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        max_position_embeddings=known["llama.context_length"],
        rms_norm_eps=known["llama.attention.layer_norm_rms_epsilon"],
        rope_parameters={"rope_type": "default", "rope_theta": float(known.get("llama.rope.freq_base", 1e4))},
        tie_word_embeddings="lm_head.weight" not in state,
        **{f"{name}_token_id": None if field is None else int(field.contents()) for name, field in special.items()},
    )
    model = LlamaForCausalLM(config)
    missing, unexpected = model.load_state_dict(state, strict=False)
    if unexpected or set(missing) - {"lm_head.weight"}:
        raise CheckpointError(f"the GGUF file is not a plain Llama: {[*missing, *unexpected][:3]} do not fit")
    return model


def _tensors(reader: Any, heads: int, key_heads: int) -> Any:
    """Name and float32 weights of every tensor, with the names of ``transformers``."""
    from gguf.quants import dequantize

    for tensor in reader.tensors:
        weights = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
        outer, _, kind = tensor.name.rpartition(".")
        if outer.startswith("blk."):
            _, layer, part = outer.split(".")
            if part in ("attn_q", "attn_k"):
                weights = _halves_for_pairs(weights, heads if part == "attn_q" else key_heads)
            name = f"model.layers.{layer}.{_LAYER.get(part, part)}"
        else:
            name = _OUTER.get(outer, outer)
        yield f"{name}.{kind}", weights


def _halves_for_pairs(weights: Tensor, heads: int) -> Tensor:
    """Reorder rows: GGUF rotates neighboring rows of a head, ``transformers`` the first half against the second."""
    rows, columns = weights.shape
    return weights.view(heads, rows // heads // 2, 2, columns).transpose(1, 2).reshape(rows, columns)


if __name__ == "__main__":
    _main(*map(Path, sys.argv[1:]))
