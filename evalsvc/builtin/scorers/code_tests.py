"""Whether a program passes its tests."""

from __future__ import annotations

import platform
import re

from evalsvc.builtin.scorers.rows import NotApplicable, checked, score_rows
from evalsvc.core.errors import InputError
from evalsvc.core.programs.remote import UnfitTestError
from evalsvc.core.programs.verdicts import Limits, judge
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.registry import Quantity
from evalsvc.metrics.score import Direction
from evalsvc.plugins.items import ItemBatch, Scored
from evalsvc.plugins.registry import versioned
from evalsvc.plugins.samples import Samples, Texts
from evalsvc.plugins.scorers import ScorerInfo

_BLOCK = re.compile(r"^[ \t]*(`{3,}|~{3,})[ \t]*([\w+-]*)[^\n`]*\n(.*?)(?:^[ \t]*\1|\Z)", re.MULTILINE | re.DOTALL)
_PYTHON = ("python", "py", "python3")
MOST_SECONDS, LEAST_MEGABYTES, MOST_MEGABYTES = 600, 64, 16_384


@versioned("1")
class CodeTests:
    """The plug-in ``code-tests``: ``passed``, whether a program passes all tests of its item, and ``tests_passed``.

    The tests are the item's targets: Python code with assertions, or the JSON of a call or of a script's input and
    output (:func:`evalsvc.core.programs.verdicts.judge`). The program is the first block of Python in the text, or its
    first block, or all of it; with the item's prompt before it, where the two together are Python. It has
    ``time_limit`` seconds for all of its tests and ``memory_limit`` MB, the standard library of this Python, and
    nothing else: each program runs in Linux namespaces, and on a machine without them none does. Tests run in a process
    apart from the program's. ``passed`` is 0 or 1, and its mean is pass@1 (Chen et al. 2021).
    """

    quantities = (
        Quantity("passed", Direction.HIGHER, "share", 0.0, 1.0, title="Passes all tests", title_zh="通过全部测试"),
        Quantity("tests_passed", Direction.HIGHER, "share", 0.0, 1.0, title="Tests passed", title_zh="通过的测试"),
    )

    def __init__(self, device: torch.device, *, time_limit: float = 10.0, memory_limit: int = 1024) -> None:
        if not 0 < checked("code-tests", "time_limit", time_limit, float) <= MOST_SECONDS:
            raise _out_of_range("time_limit", time_limit, f"more than 0 and at most {MOST_SECONDS} seconds")
        if not LEAST_MEGABYTES <= checked("code-tests", "memory_limit", memory_limit, int) <= MOST_MEGABYTES:
            raise _out_of_range("memory_limit", memory_limit, f"{LEAST_MEGABYTES} to {MOST_MEGABYTES} MB")
        self._limits = Limits(time_limit, memory_limit * 2**20)
        self.info = ScorerInfo(
            "code-tests",
            frozenset({"text"}),
            self.quantities,
            frozenset({"prompt", "target"}),
            facts={
                "python": ".".join(platform.python_version_tuple()[:2]),
                "time_limit": f"{float(time_limit)} s",
                "memory_limit": f"{memory_limit} MB",
            },
        )

    def score(self, samples: Samples, items: ItemBatch) -> Scored:
        """1 or 0, and the share of tests that pass, for each text.

        Raises:
            InputError: the samples or the targets are not texts.
            NamespacesError: this machine does not allow namespaces; nothing was run.
        """
        if not isinstance(samples, Texts):
            raise InputError("scorer 'code-tests' requires text samples")
        targets = items.targets
        if not isinstance(targets, tuple):
            raise InputError("scorer 'code-tests' reads tests: set 'target' of the items to a column of texts")

        whys: dict[int, str] = {}

        def judged(row: int) -> list[float]:
            if not targets or not targets[row]:
                raise NotApplicable("the item has no target")
            prompt = items.prompts[row] if items.prompts else ""
            setup = prompt if isinstance(prompt, str) else ""
            try:
                verdict = judge(programs_of(samples.items[row], setup), setup, targets[row], self._limits)
            except UnfitTestError as error:
                raise NotApplicable(str(error)) from None
            if verdict.reason:
                whys[row] = verdict.reason
            return [float(verdict.passed), verdict.share]

        scored = score_rows(self.info, len(samples), judged)
        return Scored(scored.values, {**scored.reasons, **whys})


def programs_of(text: str, prompt: str) -> tuple[str, str]:
    """The programs that a text may stand for: the prompt and its continuation, or, if that is not Python, the text."""
    blocks = [(match[2].lower(), match[3]) for match in _BLOCK.finditer(text)]
    if not blocks:
        return prompt + text, text
    block = next((content for language, content in blocks if language in _PYTHON), blocks[0][1])
    return f"{prompt}\n{block}", block


def _out_of_range(option: str, value: float, bounds: str) -> InputError:
    return InputError(f"invalid option {option}={value!r} of scorer 'code-tests': use {bounds}")
