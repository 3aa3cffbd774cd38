"""Decoding options of language models, all explicit, so that no default of a checkpoint applies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evalsvc.core.errors import InputError


class Decoding(BaseModel):
    """Decoding options of a language model: prompts and sampling."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    prompts: Annotated[tuple[str, ...], Field(min_length=1)] = ("",)
    """Prompts; sample i answers prompt i modulo their number. A suite with a file of prompts uses that."""
    chat: bool = False
    """Send each prompt through the model's chat template."""
    system: str = ""
    """System message of the chat."""
    temperature: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """Temperature; 0 is greedy."""
    top_k: Annotated[int, Field(ge=0)] = 0
    """Keep the k most likely tokens; 0 keeps all."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Keep the most likely tokens up to this probability; 1 keeps all."""
    repetition_penalty: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """Penalty on tokens that occurred already; 1 disables it. Applied before temperature, top-k and top-p."""
    max_tokens: Annotated[int, Field(ge=1)] = 128
    """Largest number of tokens written, without the prompt."""
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """The text ends before the first of these strings."""

    def but(self, changes: Mapping[str, Any]) -> Decoding:
        """A copy with some options changed."""
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
        positions = [at for stop in self.stop if (at := text.find(stop)) >= 0]
        return text[: min(positions)] if positions else text


OPTIONS = frozenset(Decoding.model_fields)
"""Names of the options of a generator that are decoding options and not model options."""
