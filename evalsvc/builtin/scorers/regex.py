"""Whether a pattern matches in a text."""

from __future__ import annotations

import importlib.metadata
from functools import lru_cache

from evalsvc.builtin.scorers.rows import NotApplicable, checked, score_texts
from evalsvc.core.errors import InputError
from evalsvc.core.patterns import Pattern
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.registry import Quantity
from evalsvc.metrics.score import Direction
from evalsvc.plugins.items import ItemBatch, Scored
from evalsvc.plugins.registry import open_to_clients, versioned
from evalsvc.plugins.samples import Samples
from evalsvc.plugins.scorers import ScorerInfo


@open_to_clients("pattern")
@versioned("1")
class Regex:
    """The plug-in ``regex``: 1 if a pattern matches anywhere in the text, else 0.

    The pattern is the option ``pattern``, or each of the item's targets (one match is enough). Patterns have the syntax
    of RE2, which takes time linear in the text; ``^`` and ``$`` anchor at the whole text, ``(?i)`` ignores case.
    """

    quantities = (
        Quantity("regex_match", Direction.HIGHER, "share", 0.0, 1.0, title="Pattern matches", title_zh="模式匹配"),
    )

    def __init__(self, device: torch.device, *, pattern: str = "") -> None:
        checked("regex", "pattern", pattern, str)
        self._pattern = Pattern(pattern, "option 'pattern' of scorer 'regex':") if pattern else None
        self.info = ScorerInfo(
            "regex",
            frozenset({"text"}),
            self.quantities,
            frozenset() if pattern else frozenset({"target"}),
            facts={"pattern": pattern, "google-re2": importlib.metadata.version("google-re2")},
        )

    def score(self, samples: Samples, items: ItemBatch) -> Scored:
        """1 or 0 for each text."""
        return score_texts(self.info, samples, items, self._judge)

    def _judge(self, text: str, targets: tuple[str, ...]) -> list[float]:
        patterns = [self._pattern] if self._pattern else [_of_target(target) for target in targets]
        return [float(any(pattern.search(text) for pattern in patterns))]


@lru_cache(maxsize=1024)
def _of_target(target: str) -> Pattern:
    try:
        return Pattern(target, "the target")
    except InputError as error:
        raise NotApplicable(str(error)) from None
