"""Word and character error rates of texts, and of speech through a recognizer."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from evalsvc.builtin.recognizers.interface import RATE, Transcripts
from evalsvc.builtin.recognizers.opening import open_recognizer
from evalsvc.builtin.scorers.rows import Failed, NotApplicable, checked, right_texts, score_rows, text_rows
from evalsvc.builtin.scorers.sounds import score_sounds
from evalsvc.builtin.scorers.transcripts import Form, normalizer
from evalsvc.core.errors import InputError
from evalsvc.metrics.edit_distance import edit_distance
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.registry import Quantity
from evalsvc.metrics.score import Direction
from evalsvc.metrics.tokenizers import characters, fitting, mixed
from evalsvc.plugins.interfaces import Modality
from evalsvc.plugins.items import Column, ItemBatch, Scored
from evalsvc.plugins.registry import open_to_clients, versioned
from evalsvc.plugins.samples import Samples
from evalsvc.plugins.scorers import ScorerInfo

LARGEST = 250_000_000
"""Maximum product of the lengths of a text and a target, whose edit distance takes about a second."""


def _rate_and_sums(name: str, part: str, title: str, title_zh: str) -> tuple[Quantity, ...]:
    errors, length = sums = f"{name}_errors", f"{name}_{part}s"
    return (
        Quantity(
            name, Direction.LOWER, f"edits per {part}", 0.0, title=title, title_zh=title_zh, corpus="ratio", sums=sums
        ),
        Quantity(errors, Direction.NEUTRAL, "edits", 0.0),
        Quantity(length, Direction.NEUTRAL, f"{part}s", 0.0),
    )


class _ErrorRate:
    """Edits over the length of the target, both in the unit of a subclass."""

    name: str
    unit: str
    quantities: tuple[Quantity, ...]

    def __init__(
        self,
        device: torch.device,
        *,
        recognizer: Mapping[str, Any] | None = None,
        language: str = "en",
        language_tag: str = "",
        normalize: Form = "by language",
        modality: Modality = "text",
    ) -> None:
        who = f"scorer {self.name!r}"
        self._language = _subtag(checked(self.name, "language", language, str))
        self._tag = checked(self.name, "language_tag", language_tag, str)
        self._form: Form = checked(self.name, "normalize", normalize, Form)
        self._transcripts: Transcripts | None = None
        facts, weights = self._settings(), "none"
        if modality == "audio" or recognizer is not None:
            self._transcripts = open_recognizer(recognizer or {}, who, device)
            heard = self._transcripts.recognizer
            facts, weights = {**facts, **heard.facts}, heard.weights
            if not self._tag and (reason := self._transcripts.unheard(self._language)):
                raise InputError(f"{who}: {reason}: set 'language', or name another model in 'recognizer'")
        self.info = ScorerInfo(
            self.name,
            frozenset({"audio" if self._transcripts else "text"}),
            self.quantities,
            frozenset[Column]({"target", "tags"} if self._tag else {"target"}),
            weights,
            facts,
        )

    def score(self, samples: Samples, items: ItemBatch) -> Scored:
        """The error rate of each sample, with its edits and the length of its target."""
        language = self._languages(items)
        if (transcripts := self._transcripts) is None:
            pair = text_rows(self.info, samples, items)
            return score_rows(self.info, len(samples), lambda row: self._judge(*pair(row), language(row)))
        right = right_texts(self.info, items)

        def judge(row: int, wave: Any) -> Sequence[float]:
            targets, spoken = right(row), language(row)
            if reason := transcripts.unheard(spoken):
                raise Failed(reason)
            return self._judge(transcripts.of(wave, spoken), targets, spoken)

        return score_sounds(self.info, samples, judge, RATE)

    def _settings(self) -> dict[str, str]:
        facts = {"normalize": self._form, "language": f"tag {self._tag}" if self._tag else self._language}
        if self._form != "none":
            normalizer(self._form, self._language, self.name)  # a missing library is an error now
            facts["whisper-normalizer"] = importlib.metadata.version("whisper-normalizer")
        return facts

    def _languages(self, items: ItemBatch) -> Callable[[int], str]:
        if not self._tag:
            return lambda row: self._language
        if self._tag not in items.tags:
            raise InputError(
                f"scorer {self.name!r}: the items have no tag {self._tag!r}: name its column in 'tags' of the items"
            )
        tags = items.tags[self._tag]
        return lambda row: _subtag(tags[row])

    def _judge(self, text: str, targets: tuple[str, ...], language: str) -> list[float]:
        """The error rate against the target that it is the least of; edits; length of that target."""
        normalize = normalizer(self._form, language, self.name)
        found = [each for target in targets if (each := self._compare(normalize(text), normalize(target)))]
        if not found:
            raise NotApplicable(f"the target has no {self.unit} after normalization")
        edits, length = min(found, key=lambda each: each[0] / each[1])
        return [edits / length, edits, length]

    def _compare(self, text: str, target: str) -> tuple[int, int] | None:
        spaced = fitting([target]) == "whitespace"
        mine, wanted = self._parts(text, spaced), self._parts(target, spaced)
        if len(mine) * len(wanted) > LARGEST:
            raise Failed(f"the text of {len(mine):,} {self.unit} is too long for a target of {len(wanted):,}")
        return (edit_distance(mine, wanted), len(wanted)) if wanted else None

    def _parts(self, text: str, spaced: bool) -> Sequence[str]:
        raise NotImplementedError


@open_to_clients("language", "language_tag", "normalize")
@versioned("1")
class WordErrors(_ErrorRate):
    """The plug-in ``wer``: word error rate, edits over the words of the target (0 and up, lower is better).

    Sounds are heard by ``recognizer`` (:class:`evalsvc.builtin.recognizers.interface.RecognizerUse`): ``use``,
    ``model``, ``beams``, ``window``. ``language`` is the code of the speech, or ``language_tag`` the tag of the items
    that has it. ``normalize`` is ``none``, ``basic``, ``english``, or ``by language``. Texts in scripts without spaces
    are compared by characters. Of several targets the nearest counts. The aggregate ``corpus`` is the WER that papers
    report: all edits over all words.
    """

    name = "wer"
    unit = "words"
    quantities = _rate_and_sums(name, "word", "Word error rate", "词错误率")

    def _parts(self, text: str, spaced: bool) -> Sequence[str]:
        return text.split() if spaced else mixed(text)


@open_to_clients("language", "language_tag", "normalize")
@versioned("1")
class CharacterErrors(_ErrorRate):
    """The plug-in ``cer``: character error rate, with the options of ``wer``.

    A run of white space is one character, and none in scripts without spaces. ``wer`` and ``cer`` of one suite hear
    each sound once.
    """

    name = "cer"
    unit = "characters"
    quantities = _rate_and_sums(name, "character", "Character error rate", "字符错误率")

    def _parts(self, text: str, spaced: bool) -> Sequence[str]:
        return " ".join(text.split()) if spaced else characters(text)


def _subtag(language: str) -> str:
    """The language of a tag of BCP 47: ``en`` of ``en-GB``."""
    return language.strip().lower().replace("_", "-").partition("-")[0]
