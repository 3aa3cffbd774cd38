"""Text generation with causal language models: sample i depends only on its prompt and its random numbers.

Rows of a batch start together at the length of their shortest prompt; rows with longer prompts are first fed their own
tokens. Hence neither padding nor a mask is needed for any architecture.

An accelerator writes several tokens before the host looks at them: what is written after the end of a text is cut, and
finished rows leave the batch. On the CPU, where a look costs nothing, no row leaves, since fewer rows would change the
rounding of the others.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from evalsvc.builtin.language_models.batch_rows import BatchRows
from evalsvc.builtin.language_models.model import LanguageModel
from evalsvc.builtin.language_models.prompts import PromptTexts
from evalsvc.builtin.language_models.schema_guide import SchemaGuide
from evalsvc.builtin.language_models.token_choice import choose, penalize
from evalsvc.core.errors import InputError
from evalsvc.inputs.decoding_options import Decoding
from evalsvc.metrics.full_precision import full_precision
from evalsvc.plugins.items import Drawn, Prompt, Usage
from evalsvc.plugins.samples import SampleRequest, Texts

CACHES = ("past_key_values", "cache_params", "state")
"""Names by which networks take and return what they have read. Without one, each token is read again."""
CACHE_TOLERANCE = 0.05
"""Relative error of a right cache in half precision; logits after a wrong one have nothing in common."""
STRIDE = {"cpu": 1, "mps": 1}
STRIDE_ON_GPU = 16
"""Tokens of each text between two looks of the host."""


@dataclass
class _Text:
    """A text while it is written, after as many tokens as its ``prompt`` has.

    Its answer begins at token ``start``, unknown while it reasons; ``guide`` is the state of its JSON schema, if any.
    """

    prompt: int
    start: int | None
    guide: Any
    tokens: list[int] = field(default_factory=list)
    done: bool = False

    def is_answer(self, position: int) -> bool:
        """Whether the token at this position belongs to its answer."""
        return not self.done and self.start is not None and position >= self.prompt


class Writer:
    """Generates answers to the prompts of a decoding. Prompts that exceed the context length raise an error at once."""

    _input = "input_ids"

    def __init__(self, model: LanguageModel, decoding: Decoding, texts: PromptTexts, prefix: str, who: str) -> None:
        self._model, self._decoding, self._who = model, decoding, who
        self._texts, self._prefix = texts, prefix
        self._prompts = self._encode(decoding.prompts)
        self._ends = _end_tokens(model)
        self._guide = SchemaGuide(model, decoding.json_schema, self._ends, who) if decoding.json_schema else None
        # A marker that is a special token would be lost.
        self._visible = {"skip_special_tokens": decoding.reasoning_end not in model.tokenizer.all_special_tokens}
        # Only the logits of the last position are needed; most architectures support this.
        parameters = inspect.signature(model.network.forward).parameters
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in parameters else {}
        self._cache = self._find_cache()
        device = model.device.type
        self._stride = 1 if self._guide else STRIDE.get(device, STRIDE_ON_GPU)
        # Tokens are chosen in float64, which Apple's devices do not have.
        self._chooser = torch.device("cpu") if device == "mps" else model.device

    def write(self, request: SampleRequest) -> Drawn:
        """One text per seed, without its prompt and reasoning, with its number of tokens.

        The prompts are those of the request, else those of the decoding in turn. A text without an end of its reasoning
        is a failure.
        """
        draws = (request.uniform(self._decoding.max_tokens, stream=stream) for stream in (0, 1))
        first, second = (each.to(self._chooser).double() for each in draws)
        # Two draws of 23 bits make one of 46, since rare tokens of a large vocabulary need a finer resolution than
        # 2^-23.
        uniforms = first + (second - 0.5) * 2.0**-23
        if request.prompts:
            prompts = self._encode(request.prompts)
        else:
            prompts = [self._prompts[int(i) % len(self._prompts)] for i in request.indices]
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        written = self._continue([prompts[i] for i in order], uniforms[order])
        tokens = [text.tokens for _, text in sorted(zip(order, written, strict=True), key=lambda pair: pair[0])]
        answers = [self._decoding.answer(self._decode(each)) for each in tokens]
        failures = {row: self._decoding.no_answer for row, answer in enumerate(answers) if answer is None}
        unknown = torch.full((len(tokens),), torch.nan, dtype=torch.float64)
        usage = Usage(unknown, torch.tensor([len(each) for each in tokens], dtype=torch.float64), unknown)
        return Drawn(Texts(tuple(answer or "" for answer in answers)), failures, usage)

    @torch.inference_mode()
    @full_precision()
    def _find_cache(self) -> str:
        """The name of the network's cache, if tokens after it have the logits of a whole text, in a batch too."""
        network: Any = self._model.network
        parameters = inspect.signature(network.forward).parameters
        tokens = torch.tensor([[1, 2, 3, 4], [4, 3, 2, 1]], device=self._model.device)
        name = next((name for name in CACHES if name in parameters), "")
        try:
            whole, cache = network(input_ids=tokens, use_cache=False).logits[:, -1].float(), None
            for part in (tokens[:, :2], tokens[:, 2:3], tokens[:, 3:]):
                output = network(**{"input_ids": part, name: cache, "use_cache": True})
                cache, last = output[name], output.logits[:, -1].float()
        except (LookupError, RuntimeError, TypeError, ValueError):
            return ""
        return name if (whole - last).abs().max() <= CACHE_TOLERANCE * whole.abs().max() else ""

    def _begin(self, prompts: Sequence[Sequence[int]]) -> tuple[Sequence[Sequence[int]], dict[str, Any]]:
        """The tokens before each text, sorted by length, and what the network is given besides them."""
        return prompts, {}

    @torch.inference_mode()
    @full_precision()
    def _continue(self, prompts: Sequence[Sequence[int]], uniforms: Float64[Tensor, "n t"]) -> list[_Text]:
        """Generated tokens for each prompt; prompts must be sorted by length."""
        before, given = self._begin(prompts)
        start = None if self._decoding.reasoning_end else 0
        texts = [_Text(len(tokens), start, self._guide and self._guide.start()) for tokens in before]
        rows, batch, position = BatchRows.of(before, uniforms, given, self._chooser), texts, texts[0].prompt
        while writing := [row for row, text in enumerate(batch) if not text.done]:
            if len(writing) < len(batch) and self._model.device.type != "cpu" and rows.can_leave():
                rows.keep(writing)
                batch = [batch[row] for row in writing]
            last = max(text.prompt for text in batch if not text.done) + self._decoding.max_tokens
            ahead = range(position, min(position + self._stride, last))
            written = torch.stack([self._next(rows, at, batch) for at in ahead])
            for position, tokens in zip(ahead, written.tolist(), strict=True):
                for text, token in zip(batch, tokens, strict=True):
                    if position >= text.prompt and not text.done:
                        self._add(text, token)
            position = ahead.stop
        return texts

    def _next(self, rows: BatchRows, position: int, texts: Sequence[_Text]) -> Int64[Tensor, " n"]:
        """The token of each row at a position, which is that of its prompt as far as this goes."""
        decoding = self._decoding
        cached = {self._cache: rows.cache, "use_cache": True} if self._cache else {"use_cache": False}
        read = {self._input: rows.tokens.to(self._model.device)}
        output = self._model.network(**read, **cached, **rows.given, **self._last_only)
        rows.cache, logits = getattr(output, self._cache, None), output.logits[:, -1].float().to(self._chooser)
        if decoding.repetition_penalty != 1:
            seen = torch.zeros_like(logits, dtype=torch.bool) if rows.seen is None else rows.seen
            rows.seen = seen.scatter_(1, rows.tokens, torch.ones_like(rows.tokens, dtype=torch.bool))
            logits = penalize(logits, rows.seen, decoding.repetition_penalty)
        if self._guide:
            states = {row: text.guide for row, text in enumerate(texts) if text.is_answer(position)}
            logits = self._guide.mask(logits, states)
        number = (position - rows.lengths).clamp(0, decoding.max_tokens - 1)
        chosen = choose(logits, rows.uniforms.gather(1, number[:, None]).squeeze(1), decoding)
        forced = rows.prompts[:, min(position, rows.prompts.shape[1] - 1)]
        latest = torch.where(position < rows.lengths, forced, chosen)
        rows.tokens = latest[:, None] if rows.cache is not None else torch.cat([rows.tokens, latest[:, None]], 1)
        return latest

    def _add(self, text: _Text, token: int) -> None:
        """Add a token to a text, which it may complete."""
        if token in self._ends:
            text.done = True
            return
        text.tokens.append(token)
        text.done = len(text.tokens) == self._decoding.max_tokens
        if text.start is None:
            if self._has((self._decoding.reasoning_end,), text.tokens):
                text.start = len(text.tokens)
            return
        if text.guide:
            text.guide.consume_token(token)
            text.done |= text.guide.is_stopped()
        text.done |= self._has(self._decoding.stop, text.tokens[text.start :])

    def _has(self, strings: Sequence[str], tokens: Sequence[int]) -> bool:
        """Whether the latest tokens complete one of the strings. Each token contributes at least one byte."""
        if not strings:
            return False
        reach = max(len(each.encode()) for each in strings) + 1
        tail = self._decode(tokens[-reach:])
        if len(tokens) <= reach and self._decoding.reasoning_end and strings == self._decoding.stop:
            tail = tail.lstrip()  # the answer begins after the spaces that follow its reasoning
        return any(each in tail for each in strings)

    def _decode(self, tokens: Sequence[int]) -> str:
        text: str = self._model.tokenizer.decode(tokens, **self._visible)
        return text

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


def _end_tokens(model: LanguageModel) -> set[int]:
    """Tokens that end a text: those of the tokenizer and of the checkpoint's generation configuration."""
    tokens: set[int] = set()
    configured: Any = getattr(model.network.generation_config, "eos_token_id", None)
    for value in (configured, model.tokenizer.eos_token_id):
        tokens |= set(value) if isinstance(value, list) else {value} - {None}
    return tokens
