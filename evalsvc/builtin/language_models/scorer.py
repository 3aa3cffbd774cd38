"""Likelihoods of documents under a causal language model, with every token scored exactly once.

Documents are cut into windows, which are sorted by length and batched by a budget of tokens to minimize padding.
Padding is on the right, where a causal model cannot see it from a scored position: no mask is needed, and results do
not depend on batch, order or padding. The output head, whose logits would be the largest array by far, is applied to
scored positions only, in chunks that fit into the cache. Losses stay on the device until all batches are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from evalsvc.builtin.language_models.continuations import ContinuationEncoder
from evalsvc.builtin.language_models.model import LanguageModel
from evalsvc.builtin.language_models.token_budget import TokenBudget
from evalsvc.builtin.language_models.windows import Window, WindowLosses, windows_of
from evalsvc.core.errors import InputError, ModelError
from evalsvc.metrics.devices import staged
from evalsvc.metrics.full_precision import full_precision

CHUNK = {"cpu": 128}
CHUNK_ON_GPU = 1024
"""Rows of logits at once: 128 rows of 49,152 take 25 MB; more would not fit into a CPU's cache."""
PROBE_TOLERANCE = 1e-3


@dataclass(frozen=True)
class DocumentLikelihoods:
    """Negative log-likelihood of each document in nats, and its number of scored tokens."""

    nats: Float64[np.ndarray, " documents"]
    tokens: Int64[np.ndarray, " documents"]


class TokenScorer:
    """Scores documents under a language model.

    ``window`` is the maximum number of tokens that the model sees at once (by default its context length), ``context``
    the minimum of previous tokens in every window but the first. The last window is extended to the left. ``prefix`` is
    the token before each document, which is seen and never scored.
    """

    def __init__(
        self,
        model: LanguageModel,
        window: int | None = None,
        context: int = 1,
        prefix: str = "bos",
        who: str = "scorer",
    ) -> None:
        limit = model.context
        self.window = window or limit or 0
        if not self.window:
            raise InputError(f"{model.name} does not state its context length: set option window of {who}")
        if limit and self.window > limit:
            raise InputError(
                f"window={self.window} of {who} exceeds the context length of {model.name}, {limit} tokens"
            )
        if not 1 <= context <= self.window:
            raise InputError(f"invalid context={context} of {who}: use 1 to the window, {self.window}")
        self.context, self._model, self._who = context, model, who
        self._prefix = model.prefix(prefix, who)
        self._continuations = ContinuationEncoder(model, self._prefix)
        self._chunk = CHUNK.get(model.device.type, CHUNK_ON_GPU)
        self._split = _head_can_be_split(model)
        self._budget = TokenBudget(model, self.window, whole_logits=not self._split)
        self.facts = {
            "window": str(window) if window else "all that the model can see",
            "context": str(context),
            "prefix": prefix,
            "dtype": model.dtype,
            "tokenizer": model.tokenizer_digest[:16],
        }
        prompt = "whole, encoded with the text, cut on the left"
        self.facts_after = {name: fact for name, fact in self.facts.items() if name != "context"} | {"prompt": prompt}

    @torch.inference_mode()
    @full_precision()
    def score(self, texts: Sequence[str]) -> DocumentLikelihoods:
        """Likelihood of each text; an empty text has 0 nats over 0 tokens."""
        documents = [self._prefix + tokens for tokens in self._model.encode(texts)]
        windows = [
            w for i, tokens in enumerate(documents) for w in windows_of(i, len(tokens) - 1, self.window, self.context)
        ]
        losses = WindowLosses()
        self._add_windows(losses, documents, windows)
        nats = self._finite(losses.nats(len(documents)))
        return DocumentLikelihoods(nats, np.array([max(0, len(tokens) - 1) for tokens in documents], dtype=np.int64))

    @torch.inference_mode()
    @full_precision()
    def score_after(self, prompts: Sequence[str], texts: Sequence[str]) -> DocumentLikelihoods:
        """Likelihood of each text given its prompt, over the tokens of the text alone (:mod:`.continuations`).

        A prompt that does not fit into the window with its text loses its first tokens, as in lm-evaluation-harness.

        Raises:
            InputError: a text alone exceeds the window.
        """
        parts = self._continuations.encode(prompts, texts)
        counts = np.array([len(part.text) for part in parts], dtype=np.int64)
        if len(counts) and counts.max() > self.window:
            raise InputError(
                f"text {counts.argmax()} after its prompt has {counts.max()} tokens, more than the window of "
                f"{self._who}, {self.window}: shorten it"
            )
        shared, alone = dict[tuple[int, ...], list[int]](), list[int]()
        for i, part in enumerate(parts):
            fits = len(part.tokens) <= self.window and len(part.prompt) > 1 and self._reads_prompts_once
            if part.text:
                (shared.setdefault(part.prompt, []) if fits else alone).append(i)
        alone += [i for rows in shared.values() if len(rows) == 1 for i in rows]
        groups = [rows for rows in shared.values() if len(rows) > 1]
        documents, losses = [part.tokens for part in parts], WindowLosses()
        self._add_groups(losses, documents, groups, [len(part.prompt) for part in parts])
        ends = [(i, len(documents[i]) - 1) for i in alone]
        windows = [Window(i, max(0, last - self.window), len(parts[i].prompt) - 1, last) for i, last in ends]
        self._add_windows(losses, documents, windows)
        return DocumentLikelihoods(self._finite(losses.nats(len(documents))), counts)

    def _add_groups(
        self, losses: WindowLosses, documents: Sequence[Sequence[int]], groups: list[list[int]], prompts: Sequence[int]
    ) -> None:
        """Add the losses of documents that begin with the same prompt, group by group; ``prompts`` are their lengths.

        The prompts of a batch are read once, as far as the shortest one goes, and each document goes on from there; a
        prompt that would be read again for longer than it is begins another batch.
        """
        groups.sort(key=lambda rows: (prompts[rows[0]], rows))
        done = 0
        while done < len(groups):
            batch = [groups[done]]
            longest = max(len(documents[i]) for i in groups[done])
            for rows in groups[done + 1 :]:
                longest = max(longest, *(len(documents[i]) for i in rows))
                count = sum(map(len, batch)) + len(rows)
                again = prompts[rows[0]] - prompts[batch[0][0]]
                if longest * count > self._budget.tokens or again * count > prompts[rows[0]]:
                    break
                batch.append(rows)
            start = prompts[batch[0][0]] - 1
            windows = [Window(i, start, prompts[i] - 1, len(documents[i]) - 1) for rows in batch for i in rows]
            heads, counts = [documents[rows[0]][:start] for rows in batch], [len(rows) for rows in batch]
            work = partial(self._batch, documents, windows, heads, counts)
            found = self._attempt(work, len(windows) if len(batch) > 1 else 1, longest)
            if found is not None:
                losses.add(windows, found)
                done += len(batch)

    def _read(self, prompts: Sequence[Sequence[int]], counts: Sequence[int]) -> Any:
        """The network's cache after prompts of one length, with each prompt's row as often as its count says."""
        tokens = staged(torch.tensor([list(prompt) for prompt in prompts]), self._model.device)
        network = self._model.network.base_model if self._split else self._model.network
        past = network(input_ids=tokens, use_cache=True).past_key_values
        owners = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
        past.batch_select_indices(staged(owners, self._model.device))
        return past

    @cached_property
    def _reads_prompts_once(self) -> bool:
        """Whether documents that go on from a prompt that was read before have the likelihoods of whole documents."""
        documents, shared, whole = [[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 6]], WindowLosses(), WindowLosses()
        try:
            self._add_groups(shared, documents, [[0, 1]], [3, 3])
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError):
            return False
        self._add_windows(whole, documents, [Window(i, 0, 2, len(tokens) - 1) for i, tokens in enumerate(documents)])
        nats, expected = shared.nats(2), whole.nats(2)
        return bool(np.abs(nats - expected).max() <= PROBE_TOLERANCE * np.abs(expected).max())

    def _add_windows(self, losses: WindowLosses, documents: Sequence[Sequence[int]], windows: list[Window]) -> None:
        """Add the losses of windows, which are sorted."""
        windows.sort(key=lambda window: -window.length)
        done = 0
        while done < len(windows):
            longest = windows[done].length
            batch = windows[done : done + max(1, self._budget.tokens // longest)]
            found = self._attempt(partial(self._batch, documents, batch), len(batch), longest)
            if found is not None:
                losses.add(batch, found)
                done += len(batch)

    def _finite(self, nats: Float64[np.ndarray, " documents"]) -> Float64[np.ndarray, " documents"]:
        bad = np.flatnonzero(~np.isfinite(nats))
        if len(bad):
            raise ModelError(
                f"{self._model.name} gives document {bad[0]} the likelihood {nats[bad[0]]} in "
                f"{self._model.dtype}: use another dtype, or check whether the checkpoint is damaged"
            )
        return nats

    def _attempt(self, work: Callable[[], Tensor], rows: int, length: int) -> Tensor | None:
        alone = (
            f"{self._who} runs out of memory with a single window of {self.window} tokens: use a smaller "
            "window, or another device"
        )
        return self._budget.attempt(work, rows, length, alone)

    def _batch(
        self,
        documents: Sequence[Sequence[int]],
        windows: Sequence[Window],
        prompts: Sequence[Sequence[int]] = (),
        counts: Sequence[int] = (),
    ) -> Float[Tensor, " scored"]:
        """Losses of the scored tokens of each window, of which as many as ``counts`` says go on from each prompt."""
        past = self._read(prompts, counts) if prompts else None
        longest = max(window.length for window in windows)
        tokens = torch.zeros(len(windows), longest + 1, dtype=torch.int64)
        scored = torch.zeros(len(windows), longest, dtype=torch.bool)
        for row, window in enumerate(windows):
            seen = documents[window.document][window.start : window.stop + 1]
            tokens[row, : len(seen)] = torch.tensor(seen)
            scored[row, window.first - window.start : window.length] = True
        # An index by places does not wait for the device, as one by a mask does.
        places = torch.stack((scored.flatten().nonzero().squeeze(1), tokens[:, 1:][scored]))
        before, targets = staged(places, self._model.device)
        return self._losses(staged(tokens, self._model.device)[:, :-1], before, targets, past)

    def _losses(
        self,
        tokens: Int64[Tensor, "rows length"],
        scored: Int64[Tensor, " scored"],
        targets: Int64[Tensor, " scored"],
        past: Any,
    ) -> Float[Tensor, " scored"]:
        """Cross-entropy of every target, in float32 from the logits (float64 for a float64 model).

        ``scored`` are the places before the targets, counted through all rows.
        """
        network = self._model.network
        cache = {"use_cache": False} if past is None else {"use_cache": True, "past_key_values": past}
        head: Callable[[Tensor], Tensor]
        if self._split:
            hidden = network.base_model(input_ids=tokens, **cache).last_hidden_state.flatten(0, 1)[scored]
            head = network.get_output_embeddings()
        else:
            hidden, head = network(input_ids=tokens, **cache).logits.flatten(0, 1)[scored], lambda logits: logits
        losses = []
        for start in range(0, len(hidden), self._chunk):
            logits = head(hidden[start : start + self._chunk])
            logits = logits if logits.dtype == torch.float64 else logits.float()
            chosen = logits.gather(1, targets[start : start + self._chunk, None]).squeeze(1)
            losses.append(torch.logsumexp(logits, 1) - chosen)
        return torch.cat(losses)


def _head_can_be_split(model: LanguageModel) -> bool:
    """Whether the logits are a linear function of the last hidden state, without capping or scaling."""
    network: Any = model.network
    probe = torch.arange(1, 5, device=model.device)[None]
    try:
        with torch.inference_mode(), full_precision():
            whole = network(input_ids=probe, use_cache=False).logits
            parts = network.get_output_embeddings()(
                network.base_model(input_ids=probe, use_cache=False).last_hidden_state
            )
    except (AttributeError, TypeError):
        return False
    scale = float(whole.abs().max())
    return bool((whole - parts).abs().max() <= PROBE_TOLERANCE * scale) and whole.shape == parts.shape
