"""How a language model is made to write: everything said, so that no hidden default of a checkpoint decides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evalsvc.core.errors import InputError


class Decoding(BaseModel):
    """What is asked, and how tokens are chosen. Sample i answers prompt ``i % len(prompts)``,
    or, where the suite has a file of prompts, its own.

    ``temperature`` 0 is greedy. ``top_k`` 0 and ``top_p`` 1 keep all tokens. Penalty, temperature, top-k and top-p
    apply in this order. ``max_tokens`` counts what is written, prompt excluded. The text ends before the first of the
    ``stop`` strings in it. ``chat`` sends each prompt through the model's chat template, after ``system`` if there is
    one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompts: Annotated[tuple[str, ...], Field(min_length=1)] = ("",)
    chat: bool = False
    system: str = ""
    temperature: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    top_k: Annotated[int, Field(ge=0)] = 0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    repetition_penalty: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    max_tokens: Annotated[int, Field(ge=1)] = 128
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()

    def but(self, changes: Mapping[str, Any]) -> Decoding:
        """These options with some of them changed."""
        try:
            return Decoding.model_validate(self.model_dump() | dict(changes))
        except ValidationError as error:
            first = error.errors()[0]
            raise InputError(f"option {'.'.join(map(str, first['loc']))}: {first['msg']}") from None

    def prompt_of(self, sample: int) -> str:
        """The prompt of a sample."""
        return self.prompts[sample % len(self.prompts)]

    def cut(self, text: str) -> str:
        """The text up to the first stop string in it."""
        found = [at for stop in self.stop if (at := text.find(stop)) >= 0]
        return text[: min(found)] if found else text


OPTIONS = frozenset(Decoding.model_fields)
"""Names of the options of a generator that are about decoding and not about the model."""
