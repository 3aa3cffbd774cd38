"""Items: conditions of the generator, and targets that its samples are held against."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from jaxtyping import Float64, Int64

if TYPE_CHECKING:
    from torch import Tensor

    from evalsvc.plugins.samples import Samples

Condition = Literal["prompt", "label", "source"]
"""Inputs of a generator for each sample."""

Column = Literal["prompt", "label", "source", "target", "choices", "answer", "tags", "usage", "file"]
"""Columns of items that scorers can read; ``usage`` and ``file`` are the sample's."""


class Message(NamedTuple):
    """One message of a chat; ``role`` is ``system``, ``user`` or ``assistant``."""

    role: str
    content: str


Prompt: TypeAlias = str | tuple[Message, ...]
"""A text, or the messages of a chat."""


def messages_of(prompt: Prompt, system: str = "") -> list[dict[str, str]]:
    """The messages of a chat as endpoints and chat templates take them; a text is one message of the user."""
    said = (Message("user", prompt),) if isinstance(prompt, str) else prompt
    first = (Message("system", system),) if system else ()
    return [message._asdict() for message in (*first, *said)]


def text_of(prompt: Prompt) -> str:
    """A prompt as one text: of a chat, the contents of its messages, one after the other."""
    return "\n".join(message["content"] for message in messages_of(prompt))


@dataclass(frozen=True)
class Usage:
    """Cost of each sample: ``seconds`` of wall time, generated ``tokens``, and its ``price`` in US dollars.

    Shape (n,) each; NaN is unknown. The seconds of a sample that was drawn in a batch are the batch's over its size.
    """

    seconds: Float64[Tensor, " n"]
    tokens: Float64[Tensor, " n"]
    price: Float64[Tensor, " n"]


@dataclass(frozen=True)
class ItemBatch:
    """The items of a batch of samples: row i belongs to sample i.

    Only the columns that the scorer declares in :attr:`ScorerInfo.reads` are filled. ``targets`` are, for each item,
    the texts that are right (none if the item has no target), or samples of the suite's modality. ``answers`` are
    texts, or the index of the right choice. A missing prompt, answer or label is "", "" or -1. ``files`` read the
    encoded file of each sample, and raise an :class:`evalsvc.core.errors.InputError` if that cannot be read.
    """

    ids: tuple[str, ...]
    draws: Int64[Tensor, " n"]
    prompts: tuple[Prompt, ...] = ()
    labels: Int64[Tensor, " n"] | None = None
    sources: Samples | None = None
    targets: tuple[tuple[str, ...], ...] | Samples = ()
    choices: tuple[tuple[str, ...], ...] = ()
    answers: tuple[str | int, ...] = ()
    tags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    usage: Usage | None = None
    files: tuple[Callable[[], bytes], ...] = ()

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Drawn:
    """Samples with their failures and costs; a generator may return it instead of the samples alone.

    ``failures`` are the rows that could not be drawn, with a reason of one line: an upstream refusal, a crashed tool.
    Their samples are placeholders (an empty text, a black image) that no extractor's metric and no scorer judges.
    Several NaN in ``usage`` are fine: the pipeline measures the seconds itself where they are unknown.
    """

    samples: Samples
    failures: Mapping[int, str] = field(default_factory=dict)
    usage: Usage | None = None


@dataclass(frozen=True)
class Scored:
    """Values of a scorer, float, shape (n,), by quantity; NaN is "not applicable".

    ``reasons`` name the rows that have no value and why, in one line ("the target is empty"); ``failed`` are those of
    them that count as failures (an extractor crashed, a judge did not answer) instead of "not applicable". A row with a
    value may have a reason, too: of a program that fails its tests, the first failure.
    ``states``, one a row, are kept for :class:`evalsvc.plugins.scorers.MergesStates`; empty for a row without one.
    """

    values: Mapping[str, Tensor]
    reasons: Mapping[int, str] = field(default_factory=dict)
    failed: frozenset[int] = frozenset()
    states: tuple[bytes, ...] = ()
