"""ROUGE: overlap of words and word sequences with a right text."""

from __future__ import annotations

import importlib.metadata
import sys
from typing import Any

from evalsvc.builtin.scorers.rows import Failed, NotApplicable, checked, needed, score_texts
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.registry import Quantity
from evalsvc.metrics.score import Direction
from evalsvc.plugins.items import ItemBatch, Scored
from evalsvc.plugins.registry import open_to_clients, versioned
from evalsvc.plugins.samples import Samples
from evalsvc.plugins.scorers import ScorerInfo

MEASURES = {"rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L", "rougeLsum": "ROUGE-Lsum"}
LARGEST = 16_000_000
"""Maximum product of the numbers of words of a text and a target, whose table the longest common subsequence needs."""


@open_to_clients("stemmer")
@versioned("1")
class Rouge:
    """The plug-in ``rouge``: F-measures of ``rouge-score``, the largest over the targets (Lin 2004).

    ``stemmer`` reduces English words to their stems. Words are sequences of a-z and 0-9 after lowercasing; all other
    characters separate words. A text without words has 0; an item whose targets have none has no value. Newlines
    separate the sentences of ROUGE-Lsum. A text too long for its target fails: the product of their words is at
    most 16 million.
    """

    quantities = tuple(
        Quantity(measure.lower(), Direction.HIGHER, "F1", 0.0, 1.0, title=title, title_zh=title)
        for measure, title in MEASURES.items()
    )

    def __init__(self, device: torch.device, *, stemmer: bool = False) -> None:
        checked("rouge", "stemmer", stemmer, bool)
        scorers = rouge_score()
        self._tokenizer = needed("rouge_score.tokenizers", "rouge").DefaultTokenizer(stemmer)
        self._reference = scorers.RougeScorer(list(MEASURES), tokenizer=self._tokenizer)
        facts = {"rouge-score": importlib.metadata.version("rouge-score"), "stemmer": str(stemmer)}
        if stemmer:
            facts["nltk"] = importlib.metadata.version("nltk")
        self.info = ScorerInfo("rouge", frozenset({"text"}), self.quantities, frozenset({"target"}), facts=facts)

    def score(self, samples: Samples, items: ItemBatch) -> Scored:
        """The four F-measures of each text."""
        return score_texts(self.info, samples, items, self._judge)

    def _judge(self, text: str, targets: tuple[str, ...]) -> list[float]:
        longest = max(len(self._tokenizer.tokenize(target)) for target in targets)
        if not longest:
            raise NotApplicable("the target has no words of a-z and 0-9, which are all that ROUGE compares")
        words = len(self._tokenizer.tokenize(text))
        if words * longest > LARGEST:
            raise Failed(f"the text of {words} words is too long for ROUGE with a target of {longest}")
        best = self._reference.score_multi(list(targets), text)
        return [float(best[measure].fmeasure) for measure in MEASURES]


def rouge_score() -> Any:
    """The module ``rouge_score.rouge_scorer``.

    It logs by absl, whose handler closes the ``sys.stderr`` of its import when a server configures its logs, if that
    was replaced since. It never closes that of the process.
    """
    scorers = needed("rouge_score.rouge_scorer", "rouge")
    needed("absl.logging", "rouge").get_absl_handler().python_handler.setStream(sys.__stderr__)
    return scorers
