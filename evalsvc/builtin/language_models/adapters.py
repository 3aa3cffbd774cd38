"""Adapters of ``peft`` over a base: a folder with ``adapter_config.json`` and ``adapter_model.safetensors``."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evalsvc.builtin.pretrained import from_hub, offline
from evalsvc.core.digests import digest_files
from evalsvc.core.errors import CheckpointError, InputError
from evalsvc.core.files.json_files import read_json
from evalsvc.core.files.safetensors_files import open_safetensors
from evalsvc.inputs.checkpoint_folders import ADAPTER_CONFIG, HUB_ID, named_base
from evalsvc.inputs.model_size import measure_folder, no_larger_than
from evalsvc.inputs.weight_sets import adapter_weights

METHODS = ("LORA", "ADALORA", "LOHA", "LOKR", "IA3", "OFT", "VERA", "LN_TUNING")
"""Methods that change layers of the base. Others add tokens to prompts, or need more than the folder."""
NOT_APPLIED = ("megatron_config", "alora_invocation_tokens", "arrow_config")
"""Settings that import code, or that only the methods of ``peft``'s own wrapper follow."""


def base_of(folder: Path, base: str, who: str) -> Path:
    """The base of an adapter: ``base``, a path or a hub id, else the one that the adapter names.

    A hub model that only the adapter names is never downloaded.

    Raises:
        InputError: there is no base, or it is not on this machine.
    """
    if base:
        return Path(base) if Path(base).exists() else from_hub(base, who)
    named, revision = named_base(folder / ADAPTER_CONFIG)
    if not named:
        raise InputError(
            f"{folder / ADAPTER_CONFIG} does not name a base for {who}: set option base to a folder or hub id"
        )
    if Path(named).exists():
        return Path(named)
    try:
        if not HUB_ID.fullmatch(named):
            raise InputError("it is not a hub id")
        with offline():
            return from_hub(f"{named}@{revision}", who)
    except InputError:
        raise InputError(
            f"{folder / ADAPTER_CONFIG} names the base {named}, which is not on this machine: set option base to its "
            "folder, or to a hub id to download it"
        ) from None


def apply_adapter(network: Any, folder: Path, who: str) -> str:
    """Insert an adapter into the layers of its base, whose own weights stay as they are; return its digest.

    Raises:
        InputError: ``peft`` is not installed, the method is not supported, or the adapter is of another base.
        CheckpointError: a file of the adapter is damaged or describes far more than it contains.
    """
    try:
        import peft
    except ImportError:
        raise InputError(f"{folder} is an adapter, which needs its extra: pip install 'evalsvc[peft]'") from None
    weights = adapter_weights(folder, who)
    measure_folder(folder)
    method = _method(folder, who)
    try:
        with warnings.catch_warnings(), offline(), no_larger_than(folder, weights, ADAPTER_CONFIG):
            warnings.simplefilter("ignore")  # keys that do not fit are errors below
            config = peft.PEFT_TYPE_TO_CONFIG_MAPPING[peft.PeftType(method)].from_pretrained(str(folder))
            config.inference_mode = True
            _resize_vocabulary(network, weights.files[0])
            model = peft.PeftModel(network, config)
            renamed = getattr(network, "_checkpoint_conversion_mapping", None)
            result = model.load_adapter(str(folder), "default", torch_device="cpu", key_mapping=renamed)
    except CheckpointError:
        raise
    except Exception as error:  # of many types, for hostile configurations
        reason = " ".join(str(error).split())
        reason = reason[max(0, reason.find("size mismatch")) :]
        raise InputError(f"{folder} does not fit its base for {who} ({type(error).__name__}: {reason[:300]})") from None
    # Beside saved modules of a resized model, peft writes them a second time, under a name that it does not read.
    unexpected = [key for key in result.unexpected_keys if ".modules_to_save." not in key]
    for keys, what in ((result.missing_keys, "lacks"), (unexpected, "is of another base: it also has")):
        if keys:
            raise InputError(f"{weights.files[0]} {what} {sorted(keys)[0]}, the first of {len(keys)} tensors for {who}")
    return digest_files(folder, [ADAPTER_CONFIG, weights.name])


def require_same_tokens(own: Mapping[str, int], base: Mapping[str, int], folder: Path, who: str) -> None:
    """Raise an :class:`InputError` if most tokens of an adapter have another number in its base."""
    shared = own.keys() & base.keys()
    if 2 * sum(own[token] == base[token] for token in shared) <= len(own):
        raise InputError(f"{folder} is an adapter of another base, whose tokens have other numbers: set base of {who}")


def _method(folder: Path, who: str) -> str:
    config = read_json(folder / ADAPTER_CONFIG)
    method = str(config.get("peft_type"))
    if method not in METHODS:
        raise InputError(f"{folder} is an adapter of the method {method[:40]}, but {who} supports {', '.join(METHODS)}")
    for name in NOT_APPLIED:
        if config.get(name):
            raise InputError(
                f"{folder} is an adapter with {name}, which {who} does not support: merge it into its base"
            )
    return method


def _resize_vocabulary(network: Any, weights: Path) -> None:
    """Give the base as many tokens as the adapter has, if it was trained after tokens were added."""
    embedding = network.get_input_embeddings()
    name = next(name for name, module in network.named_modules() if module is embedding)
    key = f"base_model.model.{name}.weight"
    with open_safetensors(weights) as file:
        rows = file.get_slice(key).get_shape()[0] if key in file.keys() else embedding.num_embeddings  # noqa: SIM118
    if rows != embedding.num_embeddings:
        network.resize_token_embeddings(rows, mean_resizing=False)
