"""Whether a number in a text is the right one."""

from __future__ import annotations

import re
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from typing import Literal

from evalsvc.builtin.scorers.rows import NotApplicable, checked, score_texts
from evalsvc.core.errors import InputError
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.registry import Quantity
from evalsvc.metrics.score import Direction
from evalsvc.plugins.items import ItemBatch, Scored
from evalsvc.plugins.registry import open_to_clients, versioned
from evalsvc.plugins.samples import Samples
from evalsvc.plugins.scorers import ScorerInfo

Which = Literal["last", "first"]
Percent = Literal["share", "number"]

# A sign belongs to a number unless a word precedes it ("3-5" is 3 and 5). Each group of thousands is decided where it
# stands, so that the time is linear in the text.
_NUMBER = re.compile(
    r"""(?P<sign>(?<![\w)])[-+\u2212])?[$€£¥]?
        (?P<digits>\d{1,3}(?:,\d{3}(?!\d))+(?:\.\d+)?|\d+(?:\.\d+)?|(?<!\d)\.\d+)
        (?:[eE](?P<exponent>[-+\u2212]?\d{1,6})(?!\d))?
        (?P<percent>\s?[%％])?""",
    re.VERBOSE,
)
_EXACT = Context(prec=60, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[])


@open_to_clients("which", "absolute", "relative", "percent")
@versioned("1")
class Numeric:
    """The plug-in ``numeric``: 1 if the ``last`` (or ``first``) number of the text is that of a target, else 0.

    Numbers have digits with an optional sign, thousands separators (``1,234.5``), an exponent (``1.2e-3``), a currency
    sign or a percent sign, and are compared as decimals. ``45%`` is 0.45 where ``percent`` is ``share`` and 45 where it
    is ``number``. A number is right if it differs by at most ``absolute``, or ``relative`` times the target. A text
    without a number is wrong; an item whose targets have none ("NaN", "infinite") has no value.
    """

    quantities = (
        Quantity("numeric_match", Direction.HIGHER, "share", 0.0, 1.0, title="Number is right", title_zh="数值正确"),
    )

    def __init__(
        self,
        device: torch.device,
        *,
        which: Which = "last",
        absolute: float = 0.0,
        relative: float = 0.0,
        percent: Percent = "share",
    ) -> None:
        self._last = checked("numeric", "which", which, Which) == "last"
        self._shares = checked("numeric", "percent", percent, Percent) == "share"
        self._absolute = _tolerance("absolute", absolute)
        self._relative = _tolerance("relative", relative)
        facts = {"which": which, "percent": percent, "absolute": f"{self._absolute}", "relative": f"{self._relative}"}
        self.info = ScorerInfo("numeric", frozenset({"text"}), self.quantities, frozenset({"target"}), facts=facts)

    def score(self, samples: Samples, items: ItemBatch) -> Scored:
        """1 or 0 for each text."""
        return score_texts(self.info, samples, items, self._judge)

    def _judge(self, text: str, targets: tuple[str, ...]) -> list[float]:
        right = [number for number in map(self._number, targets) if number is not None]
        if not right:
            raise NotApplicable(f"the target {targets[0]!r:.60} has no number")
        answer = self._number(text)
        return [float(answer is not None and any(self._close(answer, number) for number in right))]

    def _number(self, text: str) -> Decimal | None:
        matches = _NUMBER.finditer(text)
        found = next(matches, None)
        for later in matches if self._last else ():
            found = later
        if found is None:
            return None
        digits = Decimal(found["digits"].replace(",", "")).as_tuple()
        exponent = int((found["exponent"] or "0").replace("\u2212", "-"))
        shift = exponent - (2 if found["percent"] and self._shares else 0)
        negative = found["sign"] not in (None, "+")
        return Decimal((int(negative), digits.digits, int(digits.exponent) + shift))

    def _close(self, answer: Decimal, right: Decimal) -> bool:
        if answer == right:
            return True
        allowed = _EXACT.max(self._absolute, _EXACT.multiply(self._relative, _EXACT.abs(right)))
        return _EXACT.abs(_EXACT.subtract(answer, right)) <= allowed


def _tolerance(option: str, value: float) -> Decimal:
    tolerance = Decimal(str(checked("numeric", option, value, float)))
    if not (tolerance.is_finite() and tolerance >= 0):
        raise InputError(f"invalid option {option}={value!r} of scorer 'numeric': use a finite number of 0 or more")
    return tolerance
