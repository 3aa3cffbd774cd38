"""Classes of torchmetrics that a suite names: where they are found, what they take of a sample, what they return."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from evalsvc.core.errors import InputError
from evalsvc.metrics.merged import MERGED
from evalsvc.metrics.registry import Quantity
from evalsvc.metrics.score import Direction
from evalsvc.plugins.registry import PluginKind, Plugins

Inputs: TypeAlias = Mapping[str, str | Mapping[str, str]]
"""By parameter of ``update``, the name of its source, or of the source of each entry of a dict."""

DOMAINS = (
    "audio",
    "classification",
    "clustering",
    "image",
    "multimodal",
    "nominal",
    "regression",
    "shape",
    "text",
    "video",
)
"""Packages of torchmetrics whose classes can be named."""
UNUSABLE = {
    "ComplexScaleInvariantSignalNoiseRatio": "it compares spectra",
    "DeepImageStructureAndTextureSimilarity": "it downloads VGG16; use lpips",
    "DeepNoiseSuppressionMeanOpinionScore": "it downloads its networks; use the scorer dnsmos",
    "FrechetInceptionDistance": "it downloads InceptionV3; use frechet_distance",
    "InceptionScore": "it downloads InceptionV3; use inception_score",
    "KernelInceptionDistance": "it downloads InceptionV3; use kernel_distance",
    "LearnedPerceptualImagePatchSimilarity": "it downloads a trunk and needs torchvision; use the scorer lpips",
    "LipVertexError": "it compares vertices of meshes",
    "MemorizationInformedFrechetInceptionDistance": "it downloads InceptionV3; use memorization_informed_frechet",
    "NonIntrusiveSpeechQualityAssessment": "it downloads its network, and needs librosa",
    "PerceptualPathLength": "it calls the generator",
    "PermutationInvariantTraining": "its option metric_func is a function",
    "Perplexity": "it reads logits of tokens; use perplexity",
    "ProcrustesDisparity": "it compares point clouds",
    "VideoMultiMethodAssessmentFusion": "it needs the package vmaf-torch",
}
"""Classes that cannot be used on samples, and why."""
MODEL = "model_name_or_path"
MODELS = {
    "BERTScore": ("AutoModel", "text"),
    "CLIPImageQualityAssessment": ("CLIPModel", "clip"),
    "CLIPScore": ("CLIPModel", "clip"),
    "InfoLM": ("AutoModelForMaskedLM", "text"),
}
"""Classes with a model that their option :data:`MODEL` names: its class in ``transformers``, and the extra."""
NEEDS = {
    "PerceptualEvaluationSpeechQuality": "it needs the package pesq",
    "SpeechReverberationModulationEnergyRatio": "it needs the packages gammatone and torchaudio",
}
"""Classes that torchmetrics has beside further packages only."""
_SEVERAL = frozenset({"BLEUScore", "CHRFScore", "ExtendedEditDistance", "ROUGEScore", "SacreBLEUScore"})
_SEVERAL |= {"TranslationEditRate"}
_OWN_INPUTS: Mapping[str, Inputs] = {
    **{name: {"preds": "texts", "target": "targets"} for name in sorted(_SEVERAL)},
    "SQuAD": {"preds": "predictions", "target": "answers"},
    "CLIPScore": {"source": "levels", "target": "prompts"},
    "CLIPImageQualityAssessment": {"images": "images"},
    # Their bands and resolutions are those of the data.
    "QualityWithNoReference": {"preds": "images"},
    "SpatialDistortionIndex": {"preds": "images"},
}
_INPUTS: Mapping[str, Inputs] = {
    "audio": {"preds": "waves", "target": "target_waves"},
    "image": {"preds": "images", "target": "target_images", "img": "images"},
    "text": {"preds": "texts", "target": "target"},
    "classification": {"preds": "features", "target": "labels"},
    "clustering": {"preds": "predicted_labels", "target": "labels", "data": "features", "labels": "labels"},
    "nominal": {"preds": "predicted_labels", "target": "labels"},
}
_OUTPUTS = {"BERTScore": ("f1",), "SQuAD": ("exact_match", "f1")}
# torchmetrics declares the opposite; of both, 0 is the best value.
_LOWER = frozenset({"DaviesBouldinScore", "SpectralDistortionIndex"})
_CLOSED = frozenset({"baseline_path", "baseline_url", "device", "num_threads", "rescale_with_baseline", "return_hash"})
_CLOSED |= {"model", "user_forward_fn", "user_tokenizer"}
_NAME = re.compile(rf"({'|'.join(DOMAINS)})\.([A-Za-z][A-Za-z0-9]*)")


@dataclass(frozen=True)
class ClassUse:
    """A class with the inputs of its ``update``, the options of its constructor, and the outputs that are reported."""

    name: str
    kind: Any
    inputs: Inputs
    options: Mapping[str, Any]
    outputs: tuple[str, ...]
    distribution: str

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """One quantity for each output, named after the class."""
        own = getattr(self.kind, "quantity", None)
        stem = _snake(self.kind.__name__ if self.distribution.startswith("torchmetrics ") else self.name)
        better = self.kind.higher_is_better
        if self.kind.__name__ == "InfoLM":
            better = self.options.get("information_measure", "kl_divergence") in ("kl_divergence", "alpha_divergence")
        direction = Direction.HIGHER if better else Direction.NEUTRAL if better is None else Direction.LOWER
        if self.kind.__name__ in _LOWER:
            direction = Direction.LOWER
        found = []
        for output in self.outputs:
            name = f"{stem}_{output}".lower() if output else stem
            title = name.replace("_", " ").capitalize()
            unit, low, high = (own.unit, own.low, own.high) if isinstance(own, Quantity) else ("", *_UNBOUNDED)
            found.append(Quantity(name, direction, unit, low, high, title=title, title_zh=title, corpus=MERGED))
        return tuple(found)


_UNBOUNDED = (float("-inf"), float("inf"))


def class_use(
    metric: Any, inputs: Any = None, options: Any = None, outputs: Any = None, plugins: Plugins | None = None
) -> ClassUse:
    """The class ``metric`` (``text.WordErrorRate``, or a plug-in's name) with inputs, options and outputs checked.

    Raises:
        InputError: there is no such class, it cannot be used on samples, or it does not take these inputs or options.
    """
    kind, distribution = _found(str(metric), plugins)
    reason = UNUSABLE.get(kind.__name__) if distribution.startswith("torchmetrics ") else None
    if reason:
        raise InputError(f"torchmetrics class {metric!r} cannot score samples: {reason}")
    given = _checked_inputs(str(metric), kind, inputs)
    chosen = _checked_options(str(metric), kind, {} if options is None else options, given)
    if outputs is None:
        keys = chosen.get("rouge_keys", ())
        outputs = [f"{key}_fmeasure" for key in keys] or _OUTPUTS.get(kind.__name__, ("",))
    elif (
        not _is_list(outputs)
        or not outputs
        or not all(isinstance(each, str) and each.isidentifier() for each in outputs)
    ):
        raise InputError(
            f"torchmetrics class {metric!r}: invalid outputs {outputs!r:.80}: list the keys that it returns"
        )
    return ClassUse(str(metric), kind, given, chosen, tuple(outputs), distribution)


def _found(name: str, plugins: Plugins | None) -> tuple[Any, str]:
    """The class of a name, and the distribution and version that it is of."""
    import torchmetrics

    if "." not in name:
        plugin = (plugins or Plugins()).get(PluginKind.METRIC, name)
        kind = plugin.load()
        if not (inspect.isclass(kind) and issubclass(kind, torchmetrics.Metric)):
            raise InputError(
                f"metric {name!r} of {plugin.distribution} is not a torchmetrics.Metric class: omit 'inputs'"
            )
        return kind, plugin.recorded_version
    if not (parts := _NAME.fullmatch(name)):
        raise InputError(f"invalid torchmetrics class {name!r:.80}: name it as in text.WordErrorRate")
    module = importlib.import_module(f"torchmetrics.{parts[1]}")
    kind = getattr(module, parts[2], None)
    if inspect.isclass(kind) and issubclass(kind, torchmetrics.Metric) and kind.__module__.startswith("torchmetrics."):
        if "task" in inspect.signature(kind.__new__).parameters:
            raise InputError(f"torchmetrics class {name!r} stands for three: name one, as in Multiclass{parts[2]}")
        return kind, f"torchmetrics {torchmetrics.__version__}"
    if reason := (UNUSABLE | NEEDS).get(parts[2]):
        raise InputError(f"torchmetrics class {name!r} cannot score samples: {reason}")
    raise InputError(f"torchmetrics {torchmetrics.__version__} has no class {name!r}, or lacks a package that it needs")


def _checked_inputs(name: str, kind: Any, inputs: Any) -> Inputs:
    every = list(inspect.signature(kind.update).parameters.values())[1:]
    parameters = [each for each in every if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
    required = [each.name for each in parameters if each.default is each.empty]
    if inputs is None:
        known = _OWN_INPUTS.get(kind.__name__) or _INPUTS.get(kind.__module__.split(".")[1], {})
        inputs = {each: known[each] for each in required if each in known}
    if not isinstance(inputs, Mapping) or not all(_is_source(each) for each in inputs.values()):
        raise InputError(
            f"torchmetrics class {name!r}: invalid inputs {inputs!r:.80}: give each the name of its source"
        )
    if wrong := sorted(map(str, set(inputs) - {each.name for each in parameters})):
        raise InputError(f"torchmetrics class {name!r} has no input {wrong[0]!r}: it takes {', '.join(required)}")
    if missing := [each for each in required if each not in inputs]:
        raise InputError(f"torchmetrics class {name!r} needs its input {missing[0]!r}: name its source in 'inputs'")
    return dict(inputs)


def _is_source(given: Any) -> bool:
    return isinstance(given, str) or (
        isinstance(given, Mapping) and all(isinstance(each, str) for each in given.values())
    )


def _checked_options(name: str, kind: Any, options: Any, inputs: Inputs) -> dict[str, Any]:
    """Options of the constructor, lists as tuples, with ``data_range`` of images unless it is given."""
    parameters = inspect.signature(kind.__init__).parameters
    taken = {each.name for each in list(parameters.values())[1:] if each.kind is not each.VAR_KEYWORD} - _CLOSED
    if not isinstance(options, Mapping):
        raise InputError(f"torchmetrics class {name!r}: invalid options {options!r:.80}: give a mapping")
    if wrong := sorted(map(str, set(options) - taken)):
        raise InputError(
            f"torchmetrics class {name!r} has no option {wrong[0]!r}: it has {', '.join(sorted(taken)) or 'none'}"
        )
    chosen = {option: _frozen(name, option, value) for option, value in options.items()}
    if kind.__name__ in MODELS and not (isinstance(chosen.get(MODEL), str) and chosen[MODEL]):
        raise InputError(f"torchmetrics class {name!r} needs the option {MODEL}: the folder of its model")
    if "data_range" in taken and "data_range" not in chosen:
        # Without it, SSIM takes the range of each batch.
        chosen["data_range"] = 255.0 if inputs.get("preds") == "levels" else 1.0
    if kind.__name__ == "ROUGEScore":
        keys = chosen.setdefault("rouge_keys", ("rouge1", "rouge2", "rougeL"))
        chosen["rouge_keys"] = (keys,) if isinstance(keys, str) else keys
        if "rougeLsum" in chosen["rouge_keys"]:
            raise InputError(f"torchmetrics class {name!r} downloads data for rougeLsum: use the scorer rouge")
    if str(chosen.get("tokenize", "")).startswith("flores"):
        raise InputError(
            f"torchmetrics class {name!r} downloads the tokenizer {chosen['tokenize']!r}: use 13a, intl or char"
        )
    return chosen


def _frozen(name: str, option: str, value: Any) -> Any:
    if _is_list(value):
        return tuple(_frozen(name, option, each) for each in value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise InputError(f"torchmetrics class {name!r}: invalid option {option}={value!r:.80}: use numbers, texts or lists")


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _snake(name: str) -> str:
    """``WordErrorRate`` as ``word_error_rate``, ``BLEUScore`` as ``bleu_score``."""
    if name.isupper() or name == "SQuAD":
        return name.lower()
    words = re.sub(r"([a-z0-9])([A-Z])|([A-Z])(?=[A-Z][a-z])", lambda at: f"{at[1] or at[3]}_{at[2] or ''}", name)
    return re.sub(r"\W", "_", words.lower())
