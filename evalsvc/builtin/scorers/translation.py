"""BLEU, chrF and TER by ``sacrebleu``: of each text, with the sums from which the statistic of the corpus is found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from evalsvc.builtin.scorers.rows import Failed, checked, needed, score_texts
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.registry import Quantity
from evalsvc.metrics.score import Direction
from evalsvc.plugins.items import ItemBatch, Scored
from evalsvc.plugins.registry import open_to_clients, versioned
from evalsvc.plugins.samples import Samples
from evalsvc.plugins.scorers import ScorerInfo

Tokenizer = Literal["13a", "intl", "zh", "char", "none"]
ORDERS = (1, 2, 3, 4)
LARGEST = 250_000
"""Maximum product of the numbers of words of a text and a target for TER, which tries a thousand shifts of words."""


class _Sacrebleu:
    """A metric of ``sacrebleu`` for single texts, with its signature, and that for corpora, in the protocol."""

    info: ScorerInfo

    def __init__(self, kind: str, quantities: tuple[Quantity, ...], of_corpus: dict[str, Any], **options: Any) -> None:
        name = kind.lower()
        library = getattr(needed("sacrebleu.metrics", name), kind)
        self._metric, corpus = library(**options), library(**of_corpus)
        for each in (self._metric, corpus):
            each.num_refs = -1  # as the signature has it where the number of targets varies
        facts = {"sentence": f"{self._metric.get_signature()}", "corpus": f"{corpus.get_signature()}"}
        self.info = ScorerInfo(name, frozenset({"text"}), quantities, frozenset({"target"}), facts=facts)

    def score(self, samples: Samples, items: ItemBatch) -> Scored:
        """The measure of each text, and its sums."""
        scored = score_texts(self.info, samples, items, self._judge)
        tokenizer = getattr(self._metric, "tokenizer", None)
        for each in (tokenizer, *getattr(tokenizer, "__dict__", {}).values()):
            # Tokenizers keep their last 65,536 texts, of any length.
            getattr(type(each).__call__, "cache_clear", lambda: None)()
        return scored

    def _judge(self, text: str, targets: tuple[str, ...]) -> Sequence[float]:
        sums = self._metric._extract_corpus_statistics([text], [[target] for target in targets])[0]
        return [self._metric._compute_score_from_stats(list(sums)).score, *self._ordered(sums)]

    def _ordered(self, sums: list[float]) -> list[float]:
        return sums


@open_to_clients("tokenize", "lowercase")
@versioned("1")
class Bleu(_Sacrebleu):
    """The plug-in ``bleu``: BLEU of single texts, smoothed exponentially, of the orders that a text is long enough for.

    A mean over texts is not BLEU: the aggregate ``corpus`` of ``bleu`` is. ``tokenize`` is a tokenizer of sacrebleu:
    ``13a``, ``intl``, ``zh``, ``char`` or ``none``. Several targets are several references. An empty text has 0.
    """

    quantities = (
        Quantity(
            "bleu",
            Direction.HIGHER,
            "BLEU",
            0.0,
            100.0,
            title="BLEU",
            title_zh="BLEU",
            corpus="bleu",
            sums=(
                *(f"bleu_matches_{n}" for n in ORDERS),
                *(f"bleu_ngrams_{n}" for n in ORDERS),
                "bleu_length",
                "bleu_target_length",
            ),
        ),
        *(Quantity(f"bleu_matches_{n}", Direction.NEUTRAL, "n-grams", 0.0) for n in ORDERS),
        *(Quantity(f"bleu_ngrams_{n}", Direction.NEUTRAL, "n-grams", 0.0) for n in ORDERS),
        Quantity("bleu_length", Direction.NEUTRAL, "tokens", 0.0),
        Quantity("bleu_target_length", Direction.NEUTRAL, "tokens", 0.0),
    )

    def __init__(self, device: torch.device, *, tokenize: Tokenizer = "13a", lowercase: bool = False) -> None:
        options = {
            "tokenize": checked("bleu", "tokenize", tokenize, Tokenizer),
            "lowercase": checked("bleu", "lowercase", lowercase, bool),
            "force": True,  # no warnings about texts that look tokenized
        }
        super().__init__("BLEU", self.quantities, options, effective_order=True, **options)

    def _ordered(self, sums: list[float]) -> list[float]:
        length, wanted, *counts = sums
        return [*counts, length, wanted]


@open_to_clients("word_order", "lowercase")
@versioned("1")
class Chrf(_Sacrebleu):
    """The plug-in ``chrf``: chrF2, the F-score of character n-grams to order 6; with ``word_order`` 2 chrF2++.

    Of several targets the best counts. An empty text has 0.
    """

    @staticmethod
    def quantities(word_order: int = 0, **_others: Any) -> tuple[Quantity, ...]:
        """chrF, and for each order the n-grams of text and target and their matches."""
        orders = [*(f"c{n}" for n in range(1, 7)), *(f"w{n}" for n in range(1, _word_order(word_order) + 1))]
        sums = tuple(f"chrf_{what}_{order}" for order in orders for what in ("ngrams", "target", "matches"))
        title = f"chrF2{'+' * word_order}"
        chrf = Quantity(
            "chrf", Direction.HIGHER, "chrF", 0.0, 100.0, title=title, title_zh=title, corpus="chrf", sums=sums
        )
        return (chrf, *(Quantity(name, Direction.NEUTRAL, "n-grams", 0.0) for name in sums))

    def __init__(self, device: torch.device, *, word_order: int = 0, lowercase: bool = False) -> None:
        options = {"word_order": word_order, "lowercase": checked("chrf", "lowercase", lowercase, bool)}
        super().__init__("CHRF", self.quantities(word_order), options, **options)


def _word_order(word_order: int) -> int:
    return checked("chrf", "word_order", word_order, Literal[0, 1, 2])


@open_to_clients("normalized", "no_punct", "asian_support", "case_sensitive")
@versioned("1")
class Ter(_Sacrebleu):
    """The plug-in ``ter``: translation edit rate, 100 times the edits over the mean length of the targets in words.

    Options as in sacrebleu. Lower is better, and more than 100 is possible; an empty text for an empty target has 0.
    Its time grows with the product of the words of text and target: above 250,000 the text fails.
    """

    quantities = (
        Quantity(
            "ter",
            Direction.LOWER,
            "TER",
            0.0,
            title="TER",
            title_zh="TER",
            corpus="percent",
            sums=("ter_edits", "ter_target_length"),
        ),
        Quantity("ter_edits", Direction.NEUTRAL, "edits", 0.0),
        Quantity("ter_target_length", Direction.NEUTRAL, "words", 0.0),
    )

    def __init__(
        self,
        device: torch.device,
        *,
        normalized: bool = False,
        no_punct: bool = False,
        asian_support: bool = False,
        case_sensitive: bool = False,
    ) -> None:
        options = {
            "normalized": normalized,
            "no_punct": no_punct,
            "asian_support": asian_support,
            "case_sensitive": case_sensitive,
        }
        for option, value in options.items():
            checked("ter", option, value, bool)
        super().__init__("TER", self.quantities, options, **options)

    def _judge(self, text: str, targets: tuple[str, ...]) -> Sequence[float]:
        words, *others = (len(self._metric._preprocess_segment(each).split()) for each in (text, *targets))
        longest = max(others)
        if words * longest > LARGEST:
            raise Failed(f"the text of {words} words is too long for TER with a target of {longest}")
        return super()._judge(text, targets)
