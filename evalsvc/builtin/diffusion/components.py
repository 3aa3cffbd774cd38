"""Components of a pipeline: models, schedulers, tokenizers and processors of ``diffusers`` and ``transformers``.

A folder names the classes of its components. Only classes of these two libraries are looked up; nothing is imported
because a file names it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from evalsvc.builtin.pretrained import NO_CODE, load_pretrained, offline
from evalsvc.core.errors import CheckpointError, InputError, first_line
from evalsvc.core.files.json_files import read_json
from evalsvc.inputs.model_size import measure_folder
from evalsvc.inputs.weight_sets import DIFFUSION_MODEL

MOST_LEVELS = 100_000
"""Maximum number of noise levels of a scheduler, each of which takes memory."""
WHO = "generator 'diffusers'"


def library() -> Any:
    """The module ``diffusers``, without its own output; raises an :class:`InputError` if it is missing."""
    try:
        import diffusers
        import peft  # noqa: F401  (adapters fail without it in the middle of loading)
        import transformers
    except ImportError:
        raise InputError(f"{WHO} needs its extra: pip install 'evalsvc[diffusers]'") from None
    diffusers.utils.logging.set_verbosity(diffusers.utils.logging.CRITICAL)
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return diffusers


def component_class(place: Path, name: str, named: object) -> type:
    """The class that ``named``, ``[library, class]``, means for the component ``name`` of the pipeline at ``place``.

    Raises:
        CheckpointError: it is not a model, scheduler, tokenizer or processor of ``diffusers`` or ``transformers``.
    """
    diffusers = library()
    import transformers
    from transformers.feature_extraction_utils import FeatureExtractionMixin
    from transformers.image_processing_base import ImageProcessingMixin

    kinds = (
        *(diffusers.ModelMixin, diffusers.SchedulerMixin, transformers.PreTrainedModel, transformers.ProcessorMixin),
        *(transformers.PreTrainedTokenizerBase, FeatureExtractionMixin, ImageProcessingMixin),
    )
    given = None
    match named:
        case ["diffusers", str(own)]:
            given = attribute(diffusers, own)
        case ["transformers", str(own)]:
            given = attribute(transformers, own)
        # Some pipelines of diffusers have models of their own: ["stable_diffusion", "StableDiffusionSafetyChecker"].
        case [str(module), str(own)] if module in dir(diffusers.pipelines):
            given = attribute(getattr(diffusers.pipelines, module), own)
    if not (isinstance(given, type) and issubclass(given, kinds)):
        raise CheckpointError(
            f"{place} names {named} for {name!r}, which {WHO} does not import: use models, schedulers, tokenizers and "
            "processors of diffusers and transformers"
        )
    return given


def attribute(module: Any, name: str) -> Any:
    """An attribute of a library; ``None`` if it is missing, or if its own requirements are not installed."""
    try:
        return getattr(module, name, None)
    except (ImportError, RuntimeError):
        return None


def open_component(folder: Path, kind: type, dtype: torch.dtype) -> Any:
    """The component in a folder, on the CPU; ``dtype`` is that of models.

    Raises:
        InputError: a file is missing, or does not fit the class.
        CheckpointError: a file is damaged, names code, or describes a model that is larger than its weights.
    """
    import transformers

    if not folder.is_dir():
        raise InputError(f"{folder} is missing, but model_index.json names it: copy the whole pipeline")
    if issubclass(kind, library().ModelMixin):
        _refuse_quantized(folder)
        return load_pretrained(kind, folder, WHO, stem=DIFFUSION_MODEL, torch_dtype=dtype)
    if issubclass(kind, transformers.PreTrainedModel):
        _refuse_quantized(folder)
        return load_pretrained(kind, folder, WHO, dtype=dtype, **NO_CODE)
    measure_folder(folder)
    if issubclass(kind, library().SchedulerMixin):
        _refuse_long_schedule(folder / "scheduler_config.json")
    code = NO_CODE if kind.__module__.startswith("transformers.") else {}
    try:
        with offline():
            part = kind.from_pretrained(folder, local_files_only=True, **code)  # type: ignore[attr-defined]
    except Exception as error:  # errors of many types for damaged and hostile files
        raise InputError(f"cannot load {folder} as {kind.__name__} for {WHO} ({first_line(error, 200)})") from None
    if isinstance(part, transformers.PreTrainedTokenizerBase):
        if set(part.get_vocab()) <= set(part.all_special_tokens):
            raise InputError(f"{folder} has no vocabulary for {WHO}: copy its vocab.json or tokenizer.json")
        part.verbose = False  # pipelines cut long prompts themselves
    return part


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object in a file; raises a :class:`CheckpointError` if it is missing or anything else."""
    try:
        value = read_json(file)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} is not a JSON object ({first_line(error, 160)})") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{file} is not a JSON object, but {type(value).__name__}")
    return value


def _refuse_long_schedule(config: Path) -> None:
    """Raise if a scheduler would hold more noise levels than any training has."""
    levels = read_object(config).get("num_train_timesteps", 0)
    if not isinstance(levels, int) or levels > MOST_LEVELS:
        raise CheckpointError(f"{config} has num_train_timesteps = {str(levels)[:20]}: the maximum is {MOST_LEVELS}")


def _refuse_quantized(folder: Path) -> None:
    """Raise for quantized weights: their configuration selects the code that reads them."""
    if (folder / "config.json").is_file() and read_object(folder / "config.json").get("quantization_config"):
        raise CheckpointError(f"{folder} is quantized, which {WHO} does not read: save the weights in full precision")
