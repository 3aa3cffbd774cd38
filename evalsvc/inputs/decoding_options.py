"""Decoding options of language models, all explicit, so that no default of a checkpoint applies."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from evalsvc.core.errors import InputError

LARGEST_SCHEMA = 100_000
"""Characters of a JSON schema."""


def _schema_text(value: Any) -> Any:
    """A schema as text, which keeps the order of properties that answers follow, wherever it is stored."""
    if value in ("", None):
        return ""
    try:
        schema = json.loads(value) if isinstance(value, str) else value
        text = json.dumps(schema, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (ValueError, TypeError, RecursionError):
        text = ""
    if not text.startswith("{"):
        raise ValueError('not a JSON object: use a JSON schema, such as {"type": "object"}')
    return text


def _is_empty(value: str) -> bool:
    """Whether an option that is newer than stored digests is left out of them."""
    return not value


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
    """The text ends before the first of these strings, in the answer if there is reasoning before it."""
    reasoning_end: Annotated[str, Field(max_length=100, exclude_if=_is_empty)] = ""
    """Text that ends the reasoning (`</think>`): the answer is the text after it, without spaces before. A sample
    without it has no answer, and fails."""
    json_schema: Annotated[
        str,
        BeforeValidator(_schema_text, json_schema_input_type=dict[str, Any] | str),
        Field(max_length=LARGEST_SCHEMA, exclude_if=_is_empty),
    ] = ""
    """JSON schema that the answer is made to match."""

    def but(self, changes: Mapping[str, Any]) -> Decoding:
        """A copy with some options changed."""
        try:
            return Decoding.model_validate(self.model_dump() | dict(changes))
        except ValidationError as error:
            first = error.errors()[0]
            reason = first["msg"].removeprefix("Value error, ")
            raise InputError(f"option {'.'.join(map(str, first['loc']))}: {reason}") from None

    def prompt_of(self, sample: int) -> str:
        """The prompt of a sample."""
        return self.prompts[sample % len(self.prompts)]

    def answer(self, text: str) -> str | None:
        """The answer in a text, after its reasoning and up to the first stop string; ``None`` if it has none."""
        if self.reasoning_end:
            _, end, text = text.partition(self.reasoning_end)
            if not end:
                return None
            text = text.lstrip()
        return self.cut(text)

    @property
    def no_answer(self) -> str:
        """The reason why a text has no answer."""
        return f"no answer after the reasoning: {self.reasoning_end!r} does not occur within {self.max_tokens} tokens"

    def cut(self, text: str) -> str:
        """The text up to the first stop string in it."""
        positions = [at for stop in self.stop if (at := text.find(stop)) >= 0]
        return text[: min(positions)] if positions else text


OPTIONS = frozenset(Decoding.model_fields)
"""Names of the options of a generator that are decoding options and not model options."""
