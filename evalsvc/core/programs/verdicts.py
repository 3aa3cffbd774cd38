"""Verdicts of tests on a program: what is right stays out of the namespaces in which the program runs."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache

from evalsvc.core.programs.process import Process
from evalsvc.core.programs.remote import UnfitTestError
from evalsvc.core.programs.steps import pair_of


@dataclass(frozen=True)
class Limits:
    """Limits of one program: seconds for all of its tests, and bytes of memory beside the interpreter."""

    seconds: float
    memory: int

    def process(self, role: str, **task: object) -> Process:
        """A process within these limits."""
        return Process(role, task, self.memory, math.ceil(self.seconds) + 1)


@dataclass(frozen=True)
class Verdict:
    """For each test the reason for which it failed, "" if it passed; ``ended`` is that for which there are no more."""

    failures: tuple[str, ...]
    ended: str = ""

    @property
    def passed(self) -> bool:
        """Whether all tests passed."""
        return not self.reason

    @property
    def share(self) -> float:
        """The share of tests that passed."""
        return self.failures.count("") / len(self.failures)

    @property
    def reason(self) -> str:
        """The first reason for which the program did not pass, "" if it did."""
        return next(filter(None, (*self.failures, self.ended)), "")


@lru_cache(maxsize=1024)
def judge(sources: tuple[str, ...], setup: str, tests: tuple[str, ...], limits: Limits) -> Verdict:
    """Test a program: the first of ``sources`` that is Python. Equal draws of an item are tested once.

    A test is Python code, the JSON of a call (``{"call": "f", "args": [1], "returns": 2}``), or that of a script's
    input and output (``{"stdin": "1", "stdout": "2"}``). ``setup`` is Python that tests may use.

    Raises:
        UnfitTestError: a test is malformed, or there is none.
        NamespacesError: this machine has no namespaces; nothing was run.
    """
    pairs = [pair_of(test) for test in tests]
    scripts = [pair for pair in pairs if pair is not None and "stdout" in pair]
    code = [test for test, pair in zip(tests, pairs, strict=True) if pair is None or "stdout" not in pair]
    failures, ended = _run_script(sources, [(_text(p, "stdin"), _text(p, "stdout")) for p in scripts], limits), ""
    if code:
        more, ended = _run_tests(sources, setup, code, limits)
        failures += more
    if not failures:
        raise UnfitTestError("the item has no tests")
    return Verdict(tuple(failures), ended)


def _run_script(sources: Sequence[str], pairs: Sequence[tuple[str, str]], limits: Limits) -> list[str]:
    """Run a script on each input, in a process and an empty folder of its own, and compare its output."""
    left, failures = limits.seconds, list[str]()
    for given, right in pairs:
        if left <= 0:
            failures.append("it was not run")
            continue
        with limits.process("script", sources=sources) as script:
            script.start()
            started = time.monotonic()
            written = script.output(given.encode(errors="replace"), started + left)
        left -= time.monotonic() - started
        if written is None:
            failures.append("it ran or wrote beyond the limits")
        else:
            same = _same_output(written.decode(errors="replace"), right)
            failures.append("" if same else "wrong output")
    return failures


def _run_tests(sources: Sequence[str], setup: str, tests: Sequence[str], limits: Limits) -> tuple[list[str], str]:
    """Run tests in one process; carry each of their calls to that of the program, which is started again if it ends."""
    failures, total, ended = list[str](), 1, "the tests did not end within the limits"
    with ExitStack() as processes:
        running = processes.enter_context(limits.process("tests", setup=setup, tests=tests))
        program = processes.enter_context(limits.process("functions", sources=sources))
        running.start()
        program.start()
        deadline, response = time.monotonic() + limits.seconds, b"{}"
        while line := running.exchange(response, deadline):
            said, response = json.loads(line), b"{}"
            if "invalid" in said:
                raise UnfitTestError(said["invalid"])
            if "tests" in said:
                total = said["tests"]
            elif "failed" in said:
                failures.append(said["failed"])
            elif "ended" in said:
                ended = said["ended"]
                break
            elif (reply := program.exchange(line, deadline)) is not None:
                response = reply
            elif time.monotonic() < deadline:
                program.close()
                program = processes.enter_context(limits.process("functions", sources=sources))
                program.start()
                response = b'{"raised": ["RuntimeError", "the program ended"]}'
    failures += [ended or "it was not run"] * (total - len(failures))
    return failures, ended


def _text(pair: object, name: str) -> str:
    found = pair.get(name, "") if isinstance(pair, dict) else ""
    if not isinstance(found, str):
        raise UnfitTestError(f"a test has {name!r} that is not a text")
    return found


def _same_output(written: str, right: str) -> bool:
    """Whether two outputs have the same lines; white space at their ends does not count, nor rounding of decimals."""
    lines, right_lines = (text.rstrip().split("\n") for text in (written, right))
    return len(lines) == len(right_lines) and all(map(_same_line, lines, right_lines))


def _same_line(line: str, right: str) -> bool:
    if line.rstrip() == right.rstrip():
        return True
    words, right_words = line.split(), right.split()
    return len(words) == len(right_words) and all(map(_same_word, words, right_words))


def _same_word(word: str, right: str) -> bool:
    if word == right:
        return True
    if "." not in right:
        return False
    try:
        return math.isclose(float(word), float(right), rel_tol=1e-6, abs_tol=1e-6)
    except ValueError:
        return False
