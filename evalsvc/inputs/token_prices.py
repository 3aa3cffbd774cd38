"""Prices of served models, and the cost of an answer by the tokens that its server counted."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

MILLION = 1e6
Dollars = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Price(BaseModel):
    """Price of a million tokens, in US dollars; ``cached`` is that of prompt tokens from the server's cache, if it
    differs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: Dollars = 0.0
    completion: Dollars = 0.0
    cached: Dollars | None = None

    def of(self, usage: Any) -> float:
        """US dollars for the ``usage`` of an answer; NaN if it does not count its tokens."""
        prompt, completion = count(usage, "prompt_tokens"), count(usage, "completion_tokens")
        cached = 0.0
        if self.cached is not None and not math.isnan(known := count(_details(usage), "cached_tokens")):
            cached = min(known, prompt)
        cost = (prompt - cached) * self.prompt + cached * (self.cached or 0.0) + completion * self.completion
        return cost / MILLION


def count(usage: Any, name: str) -> float:
    """A number of tokens in a JSON object from a server; NaN if it is missing or not a count."""
    number = usage.get(name) if isinstance(usage, dict) else None
    fits = isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 2**53
    return float(number) if fits and number is not None else math.nan


def _details(usage: Any) -> Any:
    return usage.get("prompt_tokens_details") if isinstance(usage, dict) else None
