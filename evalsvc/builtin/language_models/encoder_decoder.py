"""Encoder-decoders: texts written after a source, and likelihoods of targets given their sources.

Sources and targets have the special tokens that the tokenizer gives them, so that likelihoods are those of the loss in
``transformers``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from evalsvc.builtin.language_models.model import LanguageModel
from evalsvc.builtin.language_models.token_budget import TokenBudget
from evalsvc.builtin.language_models.writer import Writer
from evalsvc.core.errors import InputError, ModelError
from evalsvc.metrics.devices import staged, staged_together
from evalsvc.metrics.full_precision import full_precision
from evalsvc.plugins.items import Prompt


class TargetWriter(Writer):
    """Generates texts after sources."""

    _input = "decoder_input_ids"

    def _find_cache(self) -> str:
        return "past_key_values"

    def _encode(self, asked: Sequence[Prompt]) -> list[list[int]]:
        return encode_sources(self._model, self._texts.of(asked), self._who)

    def _begin(self, prompts: Sequence[Sequence[int]]) -> tuple[list[list[int]], dict[str, Any]]:
        first = [start_token(self._model, self._who)]
        forced = getattr(self._model.network.generation_config, "forced_bos_token_id", None)
        return [first if forced is None else [*first, forced]] * len(prompts), encoded(self._model, prompts)


class TargetScorer:
    """Scores targets given their sources."""

    def __init__(self, model: LanguageModel, who: str) -> None:
        self._model, self._who, self._start = model, who, start_token(model, who)
        self._budget = TokenBudget(model, model.context or 0, whole_logits=True)
        self.facts = {
            "source": "whole, with special tokens",
            "target": "with its end token",
            "dtype": model.dtype,
            "tokenizer": model.tokenizer_digest[:16],
        }

    @torch.inference_mode()
    @full_precision()
    def score(
        self, sources: Sequence[str], targets: Sequence[str]
    ) -> tuple[Float64[Tensor, " n"], Int64[Tensor, " n"]]:
        """Negative log-likelihood of each target in nats, over all tokens that the tokenizer gives it.

        Raises:
            InputError: a source or a target exceeds the context length.
            ModelError: the model gives a value that is not finite.
        """
        model = self._model
        before = encode_sources(model, sources, self._who)
        after: list[list[int]] = model.tokenizer(text_target=list(targets))["input_ids"] if targets else []
        require_length(model, after, "target", self._who)
        order = sorted(range(len(after)), key=lambda i: (len(before[i]) + len(after[i]), i), reverse=True)
        nats, done = torch.zeros(len(after), dtype=torch.float64), 0
        parts: list[Float[Tensor, "rows t"]] = []
        while done < len(order):
            longest = max(len(before[order[done]]), len(after[order[done]]), 1)
            rows = order[done : done + max(1, self._budget.tokens // longest)]
            work = partial(self._batch, [before[i] for i in rows], [after[i] for i in rows])
            alone = f"{self._who} runs out of memory with a single target of {longest} tokens: use another device"
            found = self._budget.attempt(work, len(rows), longest, alone)
            if found is not None:
                parts.append(found)
                done += len(rows)
        if parts:
            losses = staged_together(parts, torch.device("cpu"))
            nats[order] = torch.cat([each.double().sum(1) for each in losses])
        if bad := (~nats.isfinite()).nonzero().flatten().tolist():
            raise ModelError(f"{model.name} gives target {bad[0]} the likelihood {nats[bad[0]]} in {model.dtype}")
        return nats, torch.tensor([len(tokens) for tokens in after], dtype=torch.int64)

    def _batch(self, sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]) -> Float[Tensor, "rows t"]:
        """Cross-entropy of each token of the targets, 0 after their ends."""
        labels, scored = padded(targets, self._model.device)
        first = torch.full_like(labels[:, :1], self._start)
        decoder = torch.cat([first, labels[:, :-1]], 1)[:, : labels.shape[1]]
        logits = self._model.network(decoder_input_ids=decoder, use_cache=False, **encoded(self._model, sources)).logits
        logits = logits if logits.dtype == torch.float64 else logits.float()
        losses: Tensor = torch.logsumexp(logits, 2) - logits.gather(2, labels[..., None]).squeeze(2)
        return losses.where(scored, 0)


def encode_sources(model: LanguageModel, texts: Sequence[str], who: str) -> list[list[int]]:
    """Tokens of sources, with the special tokens of the tokenizer.

    Raises:
        InputError: a source is empty, or exceeds the context length.
    """
    tokens: list[list[int]] = model.tokenizer(list(texts))["input_ids"] if texts else []
    if not all(tokens):
        raise InputError(f"a source of {who} has no tokens: set a prompt")
    require_length(model, tokens, "source", who)
    return tokens


def require_length(model: LanguageModel, tokens: Sequence[Sequence[int]], what: str, who: str) -> None:
    """Raise an :class:`InputError` that names the first text that exceeds the context length, if there is one."""
    for number, each in enumerate(tokens):
        if model.context and len(each) > model.context:
            raise InputError(
                f"{what} {number} of {who} has {len(each)} tokens, more than the context length of {model.name}, "
                f"{model.context}: shorten it"
            )


def start_token(model: LanguageModel, who: str) -> int:
    """The token before each target."""
    token = getattr(model.network.config, "decoder_start_token_id", None)
    if token is None:
        raise InputError(f"{model.name} has no decoder_start_token_id for {who}: set it in its config.json")
    return int(token)


def encoded(model: LanguageModel, sources: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Sources as the decoder is given them."""
    tokens, seen = padded(sources, model.device)
    mask = seen.long()
    return {
        "encoder_outputs": model.network.get_encoder()(input_ids=tokens, attention_mask=mask),
        "attention_mask": mask,
    }


def padded(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Int64[Tensor, "n t"], Tensor]:
    """Rows of one length, and which of their tokens are not padding."""
    lengths = torch.tensor([len(row) for row in rows])
    tokens = torch.zeros(len(rows), max(1, int(lengths.max())), dtype=torch.int64)
    for number, row in enumerate(rows):
        tokens[number, : len(row)] = torch.tensor(row, dtype=torch.int64)
    return staged(tokens, device), staged(torch.arange(tokens.shape[1])[None] < lengths[:, None], device)
