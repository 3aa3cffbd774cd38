"""Process of the tests: holds what is right, and asks the process of an answer for the values of its functions.

An answer therefore never shares an interpreter with the assertions that judge it. It sees the arguments of calls.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from evalsvc.core.programs.remote import Answer, Remote, UnfitTestError
from evalsvc.core.programs.steps import Step, modules_of, steps_of


def serve_tests(setup: str, tests: Sequence[str], requests: int, replies: int) -> None:
    """Run each test; tell the host their number, then of each whether it passed, and why not.

    A test is Python code, or the JSON of a call: ``{"call": "f", "args": [1], "returns": 2}``. ``setup`` is Python code
    with names that the tests may use; its last function, and those without a body, are the answer's.
    """
    answer = Answer(requests, replies)
    try:
        steps = [step for test in tests for step in steps_of(test)]
        answer.say({"tests": sum(judges for judges, _ in steps)})
        names: dict[str, Any] = {"__name__": "tests", **modules_of(tests)}
        _run_setup(setup, names)
        for name in answer.names():
            if name not in names and not hasattr(builtins, name):
                names[name] = Remote(answer.ask, name)
        for judges, step in steps:
            why = _failure(step, names)
            if judges:
                answer.say({"failed": why})
            elif why:  # without this step, later tests would judge something else
                answer.say({"ended": why})
                return
        answer.say({"ended": ""})
    except UnfitTestError as error:
        answer.say({"invalid": str(error)})
    except Exception as error:
        answer.say({"ended": _sentence(error)})


def _run_setup(setup: str, names: dict[str, Any]) -> None:
    """Run a setup, if it is Python, without the functions of the answer: the last one, and those without a body."""
    try:
        body = ast.parse(setup).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # a prompt in words
        return
    functions = [each for each in body if isinstance(each, ast.FunctionDef)]
    for each in body:
        if each not in functions[-1:] and not (each in functions and all(map(_is_empty, each.body))):
            with suppress(Exception):  # one word is Python, too
                exec(compile(ast.Module([each], []), "setup.py", "exec", dont_inherit=True), names)


def _is_empty(statement: ast.stmt) -> bool:
    docstring = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return docstring or isinstance(statement, ast.Pass | ast.Import | ast.ImportFrom)


def _failure(step: Step, names: dict[str, Any]) -> str:
    try:
        step(names)
    except UnfitTestError:
        raise
    except Exception as error:
        return _sentence(error)
    return ""


def _sentence(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200].removesuffix(": ")
