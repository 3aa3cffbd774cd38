"""Text generation with causal language models: sample i depends only on its prompt and its random numbers.

Rows of a batch start together at the length of their shortest prompt; rows with longer prompts are first fed their own
tokens. Hence neither padding nor a mask is needed for any architecture.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from evalsvc.builtin.language_models.model import LanguageModel
from evalsvc.builtin.language_models.prompts import PromptTexts
from evalsvc.core.errors import InputError
from evalsvc.inputs.decoding_options import Decoding
from evalsvc.plugins.items import Prompt
from evalsvc.plugins.samples import SampleRequest


class Writer:
    """Generates answers to the prompts of a decoding. Prompts that exceed the context length raise an error at once."""

    def __init__(self, model: LanguageModel, decoding: Decoding, texts: PromptTexts, prefix: str, who: str) -> None:
        self._model, self._decoding, self._who = model, decoding, who
        self._texts, self._prefix = texts, prefix
        self._prompts = self._encode(decoding.prompts)
        self._ends = _end_tokens(model)
        # Only the logits of the last position are needed; most architectures support this.
        parameters = inspect.signature(model.network.forward).parameters
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in parameters else {}

    def write(self, request: SampleRequest) -> tuple[list[str], list[int]]:
        """One text per seed, without its prompt, and its number of tokens.

        The prompts are those of the request, else those of the decoding in turn.
        """
        first = request.uniform(self._decoding.max_tokens, stream=0).double()
        second = request.uniform(self._decoding.max_tokens, stream=1).double()
        # Two draws of 23 bits make one of 46, since rare tokens of a large vocabulary need a finer resolution than
        # 2^-23.
        uniforms = first + (second - 0.5) * 2.0**-23
        if request.prompts:
            prompts = self._encode(request.prompts)
        else:
            prompts = [self._prompts[int(i) % len(self._prompts)] for i in request.indices]
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        written = self._continue([prompts[i] for i in order], uniforms[order])
        texts, counts = [""] * len(prompts), [0] * len(prompts)
        for i, tokens in zip(order, written, strict=True):
            texts[i] = self._decoding.cut(self._model.tokenizer.decode(tokens, skip_special_tokens=True))
            counts[i] = len(tokens)
        return texts, counts

    @torch.inference_mode()
    def _continue(self, prompts: Sequence[Sequence[int]], uniforms: Float64[Tensor, "n t"]) -> list[list[int]]:
        """Generated tokens for each prompt; prompts must be sorted by length."""
        decoding, network, device = self._decoding, self._model.network, self._model.device
        position = len(prompts[0])
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
        forced = torch.zeros(len(prompts), int(lengths[-1]), dtype=torch.int64, device=device)
        for row, prompt in enumerate(prompts):
            forced[row, : len(prompt)] = torch.tensor(prompt, device=device)
        written: list[list[int]] = [[] for _ in prompts]
        alive = torch.ones(len(prompts), dtype=torch.bool, device=device)
        tokens, cache = forced[:, :position], None
        seen: Tensor | None = None
        while True:
            output = network(input_ids=tokens, past_key_values=cache, use_cache=True, **self._last_only)
            cache, logits = output.past_key_values, output.logits[:, -1].float()
            if decoding.repetition_penalty != 1:
                seen = torch.zeros_like(logits, dtype=torch.bool) if seen is None else seen
                seen.scatter_(1, tokens, torch.ones_like(tokens, dtype=torch.bool))
                logits = _penalize(logits, seen, decoding.repetition_penalty)
            number = (position - lengths).clamp(0, decoding.max_tokens - 1)
            chosen = choose(logits, uniforms.gather(1, number[:, None]).squeeze(1), decoding)
            reading = position < lengths
            tokens = torch.where(reading, forced[:, min(position, forced.shape[1] - 1)], chosen)[:, None]
            latest = tokens[:, 0].tolist()
            for row in (alive & ~reading).nonzero().flatten().tolist():
                token = latest[row]
                if token in self._ends:
                    alive[row] = False
                    continue
                written[row].append(token)
                if len(written[row]) == decoding.max_tokens or self._stopped(written[row]):
                    alive[row] = False
            if not bool(alive.any()):
                return written
            position += 1

    def _stopped(self, tokens: Sequence[int]) -> bool:
        """Whether the latest tokens complete a stop string. Each token contributes at least one byte."""
        if not self._decoding.stop:
            return False
        reach = max(len(stop.encode()) for stop in self._decoding.stop) + 1
        tail = self._model.tokenizer.decode(tokens[-reach:], skip_special_tokens=True)
        return any(stop in tail for stop in self._decoding.stop)

    def _encode(self, asked: Sequence[Prompt]) -> list[list[int]]:
        """Tokens of prompts; a prompt that exceeds the context length raises an error that names it."""
        decoding, model = self._decoding, self._model
        prompts = model.encode(self._texts.of(asked))
        if not all(map(self._texts.is_chat, asked)):  # a template has its own beginning
            start = model.prefix(self._prefix, self._who)
            prompts = [
                tokens if self._texts.is_chat(each) else start + tokens
                for each, tokens in zip(asked, prompts, strict=True)
            ]
        if not all(prompts):
            raise InputError(f"a prompt of {self._who} is empty and prefix is 'none': set a prompt or a prefix")
        longest = max(range(len(prompts)), key=lambda i: len(prompts[i]))
        if model.context and len(prompts[longest]) + decoding.max_tokens > model.context:
            raise InputError(
                f"prompt {longest} has {len(prompts[longest])} tokens, which with {decoding.max_tokens} new "
                f"tokens exceeds the context length of {model.name}, {model.context}: shorten it, or lower "
                "max_tokens"
            )
        return prompts


def choose(logits: Float[Tensor, "n v"], uniforms: Float64[Tensor, " n"], decoding: Decoding) -> Int64[Tensor, " n"]:
    """One token per row: the most likely at temperature 0, else by inversion of the cumulative distribution."""
    if decoding.temperature == 0:
        return logits.argmax(1)
    logits = logits / decoding.temperature
    if 0 < decoding.top_k < logits.shape[1]:
        least = logits.topk(decoding.top_k, dim=1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if decoding.top_p < 1:
        ranked, order = logits.sort(dim=1, descending=True)
        chances = ranked.softmax(1)
        beyond = chances.cumsum(1) - chances >= decoding.top_p
        logits = logits.masked_fill(torch.zeros_like(beyond).scatter(1, order, beyond), -torch.inf)
    total = logits.double().softmax(1).cumsum(1)
    chosen = torch.searchsorted(total, (uniforms * total[:, -1])[:, None], right=True).squeeze(1)
    return chosen.clamp(max=logits.shape[1] - 1)


def _penalize(logits: Float[Tensor, "n v"], seen: Tensor, penalty: float) -> Float[Tensor, "n v"]:
    """Repetition penalty (Keskar et al., 2019): tokens that occurred become less likely, for logits of either sign."""
    return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


def _end_tokens(model: LanguageModel) -> set[int]:
    """Tokens that end a text: those of the tokenizer and of the checkpoint's generation configuration."""
    tokens: set[int] = set()
    configured: Any = getattr(model.network.generation_config, "eos_token_id", None)
    for value in (configured, model.tokenizer.eos_token_id):
        tokens |= set(value) if isinstance(value, list) else {value} - {None}
    return tokens
