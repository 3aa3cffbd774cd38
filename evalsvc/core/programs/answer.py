"""Process of an answer: runs its program once, and calls its functions for the process of the tests."""

from __future__ import annotations

import builtins
import operator
import os
import sys
import types
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from evalsvc.core.programs.lines import read_lines, write_line
from evalsvc.core.programs.values import decode, encode

_NAME = "answer"


def compiled(candidates: Sequence[str]) -> types.CodeType:
    """The first of these sources that is Python.

    Raises:
        SyntaxError: none is; the error is that of the last.
    """
    for source in candidates[:-1]:
        with suppress(SyntaxError, ValueError, RecursionError, MemoryError):
            return compile(source, f"{_NAME}.py", "exec", dont_inherit=True)
    return compile(candidates[-1], f"{_NAME}.py", "exec", dont_inherit=True)


def run_script(candidates: Sequence[str], requests: int, replies: int) -> None:
    """Run a program whose standard input and output are these descriptors."""
    os.dup2(requests, 0)
    os.dup2(replies, 1)
    os.closerange(3, replies + 1)
    sys.stdin = open(0, encoding="utf-8")  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8")  # noqa: SIM115
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    exec(compiled(candidates), main.__dict__)


def serve_functions(candidates: Sequence[str], requests: int, replies: int) -> None:
    """Run a program, then answer each request with the value of a call, or the exception that it raised.

    The reply also has the arguments if the call changed them: a function may sort its list in place.
    """
    module = types.ModuleType(_NAME)
    sys.modules[_NAME] = module
    objects: dict[str, Any] = module.__dict__
    given: dict[int, Any] = {}
    waiting = [candidates]

    def refer(value: Any) -> int:
        given[len(given)] = value
        return len(given) - 1

    def referred(reference: Any) -> Any:
        return given[reference] if isinstance(reference, int) else objects[reference]

    def reply(request: Any) -> Any:
        if waiting:
            exec(compiled(waiting.pop()), module.__dict__)
        if request["do"] == "names":
            return {"value": list(objects)}
        function = getattr(operator, request["do"], None) or getattr(builtins, request["do"])
        arguments = [decode(each, referred) for each in request["args"]]
        named = {name: decode(each, referred) for name, each in request["named"].items()}
        value = function(*arguments, **named)
        left = [encode(each, refer) for each in arguments[1:]]
        return {"value": encode(value, refer), "args": left if left != request["args"][1:] else []}

    for request in read_lines(requests):
        try:
            write_line(replies, reply(request))
        except BaseException as error:  # of a hostile program, too: SystemExit, KeyboardInterrupt
            write_line(replies, {"raised": [type(error).__name__, str(error)[:200]]})
