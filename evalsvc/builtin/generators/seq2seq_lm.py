"""Any encoder-decoder of ``transformers`` (T5, BART): a folder, a hub id, or an adapter over one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from evalsvc.builtin.generators.causal_lm import model_files
from evalsvc.builtin.language_models.encoder_decoder import TargetScorer, TargetWriter
from evalsvc.builtin.language_models.model import ENCODER_DECODER, DeviceMap, Dtype, LanguageModel, Quantization
from evalsvc.builtin.language_models.prompts import PromptTexts
from evalsvc.builtin.pretrained import pin_models
from evalsvc.core.errors import InputError
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.decoding_options import OPTIONS, Decoding
from evalsvc.plugins.interfaces import GeneratorInfo, NegativeLogLikelihood
from evalsvc.plugins.items import Drawn
from evalsvc.plugins.registry import open_to_clients, versioned
from evalsvc.plugins.samples import SampleRequest, Samples, Texts

WHO = "generator 'seq2seq-lm'"


@versioned("0.1.0")
@open_to_clients(*OPTIONS, "dtype")
class Seq2SeqLM:
    """The plug-in ``seq2seq-lm``. Prompts are the sources of the encoder; options are those of ``causal-lm``."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: torch.device,
        *,
        decoding: Decoding | None = None,
        dtype: Dtype = "float32",
        base: str = "",
        quantization: Quantization | None = None,
        device_map: DeviceMap | None = None,
    ) -> None:
        model = LanguageModel.open(
            str(checkpoint.path), device, dtype, WHO, kind=ENCODER_DECODER,
            judged=True, base=base, quantization=quantization, device_map=device_map,
        )  # fmt: skip
        decoding = decoding or Decoding()
        self._texts = PromptTexts(model, decoding, WHO)
        self._writer = TargetWriter(model, decoding, self._texts, "none", WHO)
        self._scorer = TargetScorer(model, WHO)
        family = model.network.config.model_type
        self.info = GeneratorInfo(family, "text", weights=model.weights, takes=frozenset({"prompt"}))

    @staticmethod
    def checkpoint_files(folder: Path) -> Iterator[str]:
        """The same files as those of ``causal-lm``."""
        return model_files(folder, WHO)

    @staticmethod
    def pin(options: Mapping[str, Any]) -> dict[str, Any]:
        """The options with the content of the base."""
        return pin_models(options, ["base"], WHO)

    def sample(self, request: SampleRequest) -> Drawn:
        """Texts that the model generates for its sources, and their numbers of tokens."""
        return self._writer.write(request)

    def nll(self, items: Samples, request: SampleRequest) -> NegativeLogLikelihood:
        """Exact negative log-likelihoods of targets given their sources, over the tokens of the targets."""
        if not isinstance(items, Texts):
            raise InputError(f"{WHO} computes likelihoods of texts only")
        if not request.prompts:
            raise InputError(
                f"{WHO} computes likelihoods of targets given their sources, not of documents: use a suite with items, "
                "and the scorer target-nll or choice"
            )
        nats, tokens = self._scorer.score(self._texts.of(request.prompts), items.items)
        return NegativeLogLikelihood(nats, tokens, "exact", self._scorer.facts)
