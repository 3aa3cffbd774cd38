"""LoRA adapters over a pipeline, as the training scripts of ``diffusers`` save them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from evalsvc.builtin.diffusion.components import WHO
from evalsvc.builtin.pretrained import offline
from evalsvc.core.errors import CheckpointError, InputError, first_line
from evalsvc.core.files.safetensors_files import open_safetensors

FILE = "pytorch_lora_weights.safetensors"
METADATA = "lora_adapter_metadata"
"""Entry of the file's header with the configuration of the adapter, as JSON."""
PLAIN = frozenset(
    {
        *("r", "lora_alpha", "rank_pattern", "alpha_pattern", "target_modules", "exclude_modules", "lora_dropout"),
        *("use_rslora", "use_dora", "lora_bias", "bias", "fan_in_fan_out", "inference_mode"),
        *("peft_type", "task_type", "peft_version", "base_model_name_or_path", "revision"),
    }
)
"""Settings that describe an adapter only. Others must have their default, or be absent."""


def adapter_file(path: Path) -> Path | None:
    """The file of a LoRA adapter: ``path`` itself or the one in this folder; ``None`` if there is none.

    Raises:
        CheckpointError: the file is not a complete safetensors file.
    """
    if path.is_dir():
        return path / FILE if (path / FILE).is_file() else None
    if path.suffix != ".safetensors":
        return None
    return path if any("lora" in name for name in _header(path)[0]) else None


def add_adapter(pipeline: Any, file: Path, base: Path) -> None:
    """Load an adapter into the models of a pipeline.

    Raises:
        CheckpointError: the adapter is damaged, or its settings name code.
        InputError: it belongs to another base, or the pipeline takes no adapters.
    """
    _check_settings(file)
    if not hasattr(pipeline, "load_lora_weights"):
        who = type(pipeline).__name__
        raise InputError(f"{who} does not take LoRA adapters, such as {file}: pass a base that does")
    place: dict[str, Any] = {"weight_name": file.name, "local_files_only": True}
    denoiser = pipeline.unet if hasattr(pipeline, "unet") else pipeline.transformer
    layout = {"unet_config": denoiser.config} if hasattr(pipeline, "unet") else {}
    try:
        with offline():
            converted = pipeline.lora_state_dict(str(file.parent), **place, **layout)  # from the formats of others
            names = converted[0] if isinstance(converted, tuple) else converted
            if any(hasattr(denoiser, name.partition(".")[0]) for name in names):  # saved by the denoiser itself
                denoiser.load_lora_adapter(str(file.parent), prefix=None, adapter_name="checkpoint", **place)
            else:
                pipeline.load_lora_weights(str(file.parent), adapter_name="checkpoint", **place)
    except Exception as error:  # of many types, for tensors of another shape or other modules
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{file} does not fit {base} ({reason}): pass the base that it was trained on") from None
    wanted = sum("lora" in name and not name.endswith("alpha") for name in names)
    models = [each for each in pipeline.components.values() if isinstance(each, torch.nn.Module)]
    applied = sum("lora_" in name for model in models for name in model.state_dict())
    if applied != wanted:
        raise InputError(
            f"{file} does not fit {base}: {applied} of its {wanted} tensors have a place; pass the base that it was "
            "trained on"
        )


def _header(file: Path) -> tuple[list[str], str]:
    """The names of a file's tensors, and the settings of its adapter as JSON."""
    try:
        with open_safetensors(file) as opened:
            return list(opened.keys()), (opened.metadata() or {}).get(METADATA, "{}")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{file} is not a complete safetensors file ({first_line(error, 160)}): copy it again"
        ) from None


def _check_settings(file: Path) -> None:
    """Raise if the settings in the header do more than describe the adapter: peft imports modules that some name."""
    from peft import LoraConfig

    _, text = _header(file)
    try:
        settings = {name.rpartition(".")[2]: value for name, value in json.loads(text).items()}
    except (ValueError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{file} has damaged settings ({first_line(error, 160)}): save it again") from None
    usual = vars(LoraConfig()) | {"init_lora_weights": "gaussian"}
    for name, value in settings.items():
        plain = name in PLAIN or not value or value is True or value == usual.get(name)
        if not plain:
            raise CheckpointError(f"{file} has the setting {name}={str(value)[:80]!r}, which {WHO} does not apply")
