"""Settings of GGUF files that the reader of ``transformers`` leaves out: it would use defaults for them, silently.

Names and meanings are those of llama.cpp. A setting that is neither read, known here nor visible in the shapes of
tensors is an error, since a model without it gives other numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float64

FOLLOWED = {
    "context_length": "max_position_embeddings",
    "attention.sliding_window": "sliding_window",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
    "expert_feed_forward_length": "moe_intermediate_size",
    "expert_shared_feed_forward_length": "shared_expert_intermediate_size",
}
"""Names of settings in configurations of ``transformers``."""
IN_SHAPES = {"vocab_size", "context_length", "embedding_length", "feed_forward_length", "block_count", "expert_count"}
ROPE = {
    *("attention.key_length", "attention.value_length", "rope.dimension_count", "rope.freq_base", "rope.scale_linear"),
    *("rope.scaling.type", "rope.scaling.factor", "rope.scaling.original_context_length", "rope.scaling.finetuned"),
}
FACTORS = "rope_freqs.weight"
"""Tensor by which each frequency is divided, as Llama 3 does."""
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}


def complete(config: Any, tensors: Mapping[str, Any], known: Mapping[str, Any]) -> set[str]:
    """Add the settings of a file to the configuration that was read from it; return the tensors that became settings.

    Raises:
        ValueError: a setting cannot be followed.
    """
    start = f"{known['general.architecture']}."
    settings = {name.removeprefix(start): value for name, value in known.items() if name.startswith(start)}
    _require_followed(config, settings, known["general.architecture"])
    for name, attribute in FOLLOWED.items():
        if name in settings and hasattr(config, attribute):
            setattr(config, attribute, settings[name])
    rope = getattr(config, "rope_parameters", None)
    if rope is None:
        return set()
    _set_head(config, settings)
    rope = rope.get("full_attention", rope)  # layers with a window are not scaled
    if "rope.freq_base" in settings:
        rope["rope_theta"] = float(settings["rope.freq_base"])
    factors = tensors.get(FACTORS)
    rope |= _scaling(settings) if factors is None else _llama3(np.array(factors.data, dtype=np.float64).ravel(), rope)
    return set() if factors is None else {FACTORS}


def _require_followed(config: Any, settings: Mapping[str, Any], architecture: str) -> None:
    """Raise for a number among the settings that neither the reader of transformers nor this module follows."""
    from transformers.integrations import GGUF_CONFIG_MAPPING
    from transformers.integrations.gguf import GGUF_CONFIG_ARCHS

    if architecture in GGUF_CONFIG_ARCHS:  # a reader of its own
        return
    read = GGUF_CONFIG_MAPPING.get(config.model_type.removesuffix("_text"), {})
    for name, value in settings.items():
        followed = name in FOLLOWED and hasattr(config, FOLLOWED[name])
        if isinstance(value, int | float) and value and not followed and name not in {*read, *IN_SHAPES, *ROPE}:
            raise ValueError(f"its setting {architecture}.{name} = {value} is not followed")


def _set_head(config: Any, settings: Mapping[str, Any]) -> None:
    """The size of a head, all of which is rotated unless the architecture rotates a part."""
    usual = config.hidden_size // config.num_attention_heads
    size = int(settings.get("attention.key_length", usual))
    if int(settings.get("attention.value_length", size)) != size:
        raise ValueError(f"its heads have keys of {size} and values of {settings['attention.value_length']}")
    if size != usual and not hasattr(config, "head_dim"):
        raise ValueError(f"its heads have {size} dimensions in place of {usual}")
    if hasattr(config, "head_dim") and not hasattr(config, "global_head_dim"):
        config.head_dim = size
    rope = config.rope_parameters.get("full_attention", config.rope_parameters)
    rotated = int(size * rope.get("partial_rotary_factor", getattr(config, "partial_rotary_factor", 1.0)))
    if int(settings.get("rope.dimension_count", rotated)) != rotated:
        raise ValueError(f"it rotates {settings['rope.dimension_count']} of the {size} dimensions of a head")


def _scaling(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Scaling of positions for all frequencies."""
    factor = float(settings.get("rope.scaling.factor", settings.get("rope.scale_linear", 1.0)))
    kind = settings.get("rope.scaling.type", "linear" if factor != 1 else "none")
    if kind == "none" or factor == 1:
        return {}
    if kind == "linear":
        return {"rope_type": "linear", "factor": factor}
    if kind == "yarn" and "rope.scaling.original_context_length" in settings:
        length = int(settings["rope.scaling.original_context_length"])
        return {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": length}
    raise ValueError(f"its positions are scaled by {kind!r}, which is not followed")


def _llama3(factors: Float64[np.ndarray, " half"], rope: Mapping[str, Any]) -> dict[str, Any]:
    """Scaling of positions by frequency, which files give by its result."""
    factor = float(factors.max())
    if factor == 1:
        return {}
    low, high, original = LLAMA3.values()
    turns = original / (2 * np.pi) * float(rope["rope_theta"]) ** -(np.arange(len(factors)) / len(factors))
    share = np.clip((turns - low) / (high - low), 0, 1)
    if not np.allclose(factors, 1 / (share + (1 - share) / factor), rtol=1e-3):
        raise ValueError(f"its {FACTORS} is not the scaling of Llama 3")
    return {"rope_type": "llama3", "factor": factor, **LLAMA3}
