"""Answers that match a JSON schema: at each token, those that no matching answer has are impossible."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from evalsvc.builtin.language_models.model import LanguageModel
from evalsvc.core.errors import InputError
from evalsvc.metrics.devices import staged


class SchemaGuide:
    """Masks of tokens, by ``llguidance``. ``ends`` are the tokens that end a text.

    Raises:
        InputError: ``llguidance`` is not installed, or does not support the schema, the tokenizer, or no end.
    """

    def __init__(self, model: LanguageModel, schema: str, ends: set[int], who: str) -> None:
        try:
            from llguidance import LLMatcher
            from llguidance.hf import from_tokenizer
        except ImportError:
            raise InputError(
                f"option json_schema of {who} needs its extra: pip install 'evalsvc[structured]'"
            ) from None
        if not ends:
            raise InputError(f"{model.name} has no token that ends a text: omit json_schema of {who}")
        try:
            grammar = LLMatcher.grammar_from_json_schema(schema, overrides={"whitespace_flexible": False})
            tokenizer = from_tokenizer(model.tokenizer, eos_token=sorted(ends))
            self._first = LLMatcher(tokenizer, grammar, log_level=0)
            reason = self._first.get_error()
        except Exception as error:  # of many types, for schemas and tokenizers of many kinds
            reason = str(error)
        if reason:
            raise InputError(f"json_schema of {who} cannot be followed ({' '.join(reason.split())[:200]})")

    def start(self) -> Any:
        """The state before an answer. Its method ``consume_token`` advances it."""
        return self._first.deep_copy()

    def mask(self, logits: Float[Tensor, "n v"], states: Mapping[int, Any]) -> Float[Tensor, "n v"]:
        """The logits with minus infinity for impossible tokens, in the rows that have a state."""
        possible = torch.ones(logits.shape, dtype=torch.bool)
        for row, state in states.items():
            allowed = torch.frombuffer(bytearray(state.compute_logit_bias()), dtype=torch.uint8)[: logits.shape[1]] > 0
            possible[row] = False
            possible[row, : len(allowed)] = allowed
        return logits.masked_fill(~staged(possible, logits.device), -torch.inf)
