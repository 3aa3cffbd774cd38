"""Any causal language model of ``transformers``: a folder, a hub id, or a GGUF file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from evalsvc.builtin.language_models.model import DeviceMap, Dtype, LanguageModel, Quantization
from evalsvc.builtin.language_models.prompts import PromptTexts
from evalsvc.builtin.language_models.scorer import TokenScorer
from evalsvc.builtin.language_models.writer import Writer
from evalsvc.builtin.pretrained import pin_models
from evalsvc.core.errors import InputError
from evalsvc.inputs.checkpoint_folders import LEFT_OUT
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.decoding_options import OPTIONS, Decoding
from evalsvc.inputs.weight_sets import adapter_weights, is_adapter
from evalsvc.plugins.interfaces import GeneratorInfo, NegativeLogLikelihood
from evalsvc.plugins.items import Drawn
from evalsvc.plugins.registry import open_to_clients, versioned
from evalsvc.plugins.samples import SampleRequest, Samples, Texts

WHO = "generator 'causal-lm'"
TEMPLATES = "additional_chat_templates"
"""Subfolder that ``transformers`` reads."""
NEVER_READ = (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".ot", ".gguf", ".py", ".md")


def model_files(folder: Path, who: str) -> Iterator[str]:
    """The files of a language model's folder that are read; ``who`` is named in errors about an adapter."""
    if is_adapter(folder):
        adapter_weights(folder, who)
    for name in LEFT_OUT.files(folder):
        where, _, own = name.rpartition("/")
        if where in ("", TEMPLATES) and not own.endswith(NEVER_READ):
            yield name


@versioned("0.1.0")
@open_to_clients(*OPTIONS, "window", "context", "prefix", "dtype")
class CausalLM:
    """The plug-in ``causal-lm``. ``window``, ``context`` and ``prefix`` configure the windows of the likelihood.

    Another batch may change the rounding of logits, which changes a token about once in ten million draws.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: torch.device,
        *,
        decoding: Decoding | None = None,
        window: int | None = None,
        context: int = 1,
        prefix: str = "bos",
        dtype: Dtype = "float32",
        base: str = "",
        quantization: Quantization | None = None,
        device_map: DeviceMap | None = None,
    ) -> None:
        model = LanguageModel.open(
            str(checkpoint.path), device, dtype, WHO,
            judged=True, base=base, quantization=quantization, device_map=device_map,
        )  # fmt: skip
        decoding = decoding or Decoding()
        self._texts = PromptTexts(model, decoding, WHO)
        self._writer = Writer(model, decoding, self._texts, prefix, WHO)
        self._scorer = TokenScorer(model, window, context, prefix, WHO)
        family = model.network.config.model_type
        self.info = GeneratorInfo(family, "text", weights=model.weights, takes=frozenset({"prompt"}))

    @staticmethod
    def checkpoint_files(folder: Path) -> Iterator[str]:
        """Configuration, safetensors and tokenizer at the top level; other formats and code are never read."""
        return model_files(folder, WHO)

    @staticmethod
    def pin(options: Mapping[str, Any]) -> dict[str, Any]:
        """The options with the content of the base."""
        return pin_models(options, ["base"], WHO)

    def sample(self, request: SampleRequest) -> Drawn:
        """Texts that the model generates for its prompts, without the prompts; and their numbers of tokens."""
        return self._writer.write(request)

    def nll(self, items: Samples, request: SampleRequest) -> NegativeLogLikelihood:
        """Exact negative log-likelihoods over the tokens of each document, or of each text after its prompt."""
        if not isinstance(items, Texts):
            raise InputError(f"{WHO} computes likelihoods of texts only")
        if request.prompts:
            scored = self._scorer.score_after(self._texts.of(request.prompts), items.items)
        else:
            scored = self._scorer.score(items.items)
        nats, tokens = torch.from_numpy(scored.nats), torch.from_numpy(scored.tokens)
        facts = self._scorer.facts_after if request.prompts else self._scorer.facts
        return NegativeLogLikelihood(nats, tokens, "exact", facts)
