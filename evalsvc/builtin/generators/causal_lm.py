"""Any causal language model of ``transformers``: a folder, a hub id, or a GGUF file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from evalsvc.builtin.language_models.model import Dtype, LanguageModel
from evalsvc.builtin.language_models.prompts import PromptTexts
from evalsvc.builtin.language_models.scorer import TokenScorer
from evalsvc.builtin.language_models.writer import Writer
from evalsvc.core.errors import InputError
from evalsvc.inputs.checkpoint_folders import LEFT_OUT
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.decoding_options import OPTIONS, Decoding
from evalsvc.inputs.weight_sets import refuse_adapter
from evalsvc.plugins.interfaces import GeneratorInfo, NegativeLogLikelihood
from evalsvc.plugins.items import Drawn, Usage
from evalsvc.plugins.registry import open_to_clients, versioned
from evalsvc.plugins.samples import SampleRequest, Samples, Texts

WHO = "generator 'causal-lm'"
TEMPLATES = "additional_chat_templates"
"""Subfolder that ``transformers`` reads."""
NEVER_READ = (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".ot", ".gguf", ".py", ".md")


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
    ) -> None:
        model = LanguageModel.open(str(checkpoint.path), device, dtype, WHO, judged=True)
        decoding = decoding or Decoding()
        self._texts = PromptTexts(model, decoding, WHO)
        self._writer = Writer(model, decoding, self._texts, prefix, WHO)
        self._scorer = TokenScorer(model, window, context, prefix, WHO)
        family = model.network.config.model_type
        self.info = GeneratorInfo(family, "text", weights=model.weights, takes=frozenset({"prompt"}))

    @staticmethod
    def checkpoint_files(folder: Path) -> Iterator[str]:
        """Configuration, safetensors and tokenizer at the top level; other formats and code are never read."""
        refuse_adapter(folder, WHO)
        for name in LEFT_OUT.files(folder):
            where, _, own = name.rpartition("/")
            if where in ("", TEMPLATES) and not own.endswith(NEVER_READ):
                yield name

    def sample(self, request: SampleRequest) -> Drawn:
        """Texts that the model generates for its prompts, without the prompts; and their numbers of tokens."""
        texts, counts = self._writer.write(request)
        unknown = torch.full((len(texts),), torch.nan, dtype=torch.float64)
        usage = Usage(unknown, torch.tensor(counts, dtype=torch.float64), unknown)
        return Drawn(Texts(tuple(texts)), usage=usage)

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
