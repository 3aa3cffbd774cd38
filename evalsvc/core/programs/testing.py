"""Process of the tests: holds what is right, and asks the process of an answer for the values of its functions.

An answer therefore never shares an interpreter with the assertions that judge it. It sees the arguments of calls.
"""

from __future__ import annotations

import ast
import builtins
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from evalsvc.core.programs.lines import read_lines, write_line
from evalsvc.core.programs.values import UnsentError, decode, encode

_FORWARDED = {"__len__": "len", "__getitem__": "getitem", "__setitem__": "setitem", "__iter__": "iter"}
"""Operations on objects that stay with the answer. Comparisons are not among them: an answer must not decide them."""
Ask = Callable[..., Any]
Step = Callable[[dict[str, Any]], None]


class UnfitTestError(Exception):
    """A test cannot be run apart from the answer."""


class Remote:
    """An object that stays in the process of the answer: its attributes, items and calls are asked for there."""

    __slots__ = ("_ask", "_reference")

    def __init__(self, ask: Ask, reference: str | int) -> None:
        object.__setattr__(self, "_ask", ask)
        object.__setattr__(self, "_reference", reference)

    def __getattr__(self, name: str) -> Any:
        return self._ask("getattr", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._ask("setattr", self, name, value)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """The value that the answer's function returns."""
        return self._ask("call", self, *arguments, **named)

    def __next__(self) -> Any:
        return self._ask("next", self)


for _special, _operation in _FORWARDED.items():
    setattr(Remote, _special, lambda self, *rest, _do=_operation: self._ask(_do, self, *rest))


class Answer:
    """The process of the answer, as the tests see it."""

    def __init__(self, requests: int, replies: int) -> None:
        self._lines, self._replies = read_lines(requests), replies
        next(self._lines)  # the host is ready

    def say(self, content: Any) -> Any:
        """Send a line to the host, and return its response."""
        write_line(self._replies, content)
        for response in self._lines:
            return response
        raise SystemExit

    def names(self) -> list[str]:
        """The names that the program of the answer defines."""
        value = self._value(self.say({"do": "names"}))
        return [name for name in value if isinstance(name, str) and name[:2] != "__"]

    def ask(self, operation: str, *arguments: Any, **named: Any) -> Any:
        """The value of an operation there."""
        request = {
            "do": operation,
            "args": [encode(each, _reference) for each in arguments],
            "named": {name: encode(each, _reference) for name, each in named.items()},
        }
        reply = self.say(request)
        value = self._value(reply)
        for mine, left in zip(arguments[1:], reply.get("args", ()), strict=False):
            _update(mine, decode(left, self._remote))
        return value

    def _value(self, reply: Any) -> Any:
        if not isinstance(reply, dict) or "value" not in reply:
            name, message = _texts(reply)
            kind = getattr(builtins, name, None)
            if not (isinstance(kind, type) and issubclass(kind, Exception)):
                kind, message = RuntimeError, f"{name}: {message}"
            try:
                error = kind(message)
            except Exception:  # of kinds that need more arguments
                error = RuntimeError(f"{name}: {message}")
            raise error
        return decode(reply["value"], self._remote)

    def _remote(self, reference: Any) -> Remote:
        if not isinstance(reference, str | int):
            raise UnsentError("is not a reference")
        return Remote(self.ask, reference)


def serve_tests(setup: str, tests: Sequence[str], requests: int, replies: int) -> None:
    """Run each test; tell the host their number, then of each whether it passed, and why not.

    A test is Python code, or the JSON of a call: ``{"call": "f", "args": [1], "returns": 2}``. ``setup`` is Python code
    with names that the tests may use; its last function, and those without a body, are the answer's.
    """
    answer = Answer(requests, replies)
    try:
        steps = [step for test in tests for step in _steps(test)]
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        answer.say({"invalid": f"a test is not Python ({error})"[:200]})
        return
    answer.say({"tests": sum(judges for judges, _ in steps)})
    names: dict[str, Any] = {"__name__": "tests"}
    try:
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


def _steps(test: str) -> Iterator[tuple[bool, Step]]:
    """The parts of a test in order, and whether each is a test of its own; others only prepare."""
    if (pair := pair_of(test)) is not None:
        yield True, partial(_compare, pair)
        return
    tree = ast.parse(test)
    body = _inlined(tree) or tree.body
    single = not any(map(_asserts, body))
    for statement in body:
        code = compile(ast.Module([statement], []), "test.py", "exec", dont_inherit=True)
        last = single and statement is body[-1]
        yield last or _asserts(statement), partial(exec, code)


def pair_of(test: str) -> Mapping[str, Any] | None:
    """The input and output of a test that is one in JSON; None for Python code."""
    if not test.lstrip().startswith("{"):
        return None
    try:
        found = json.loads(test)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and ({"call", "returns"} <= found.keys() or "stdout" in found) else None


def _asserts(statement: ast.stmt) -> bool:
    return not isinstance(statement, ast.FunctionDef | ast.ClassDef) and any(
        isinstance(node, ast.Assert) and not isinstance(node.test, ast.Constant) for node in ast.walk(statement)
    )


def _inlined(tree: ast.Module) -> list[ast.stmt]:
    """The statements of a test ``def check(candidate): ...; check(f)``, so that each assertion is a test; else none."""
    *before, last = tree.body or [ast.Pass()]
    checks = {each.name: each for each in before if isinstance(each, ast.FunctionDef)}
    if not (
        isinstance(last, ast.Expr) and isinstance(call := last.value, ast.Call) and isinstance(call.func, ast.Name)
    ):
        return []
    check = checks.get(call.func.id)
    if check is None or len(check.args.args) != 1 or len(call.args) != 1 or not any(map(_asserts, check.body)):
        return []
    if any(isinstance(each, ast.Return | ast.Yield | ast.Global | ast.Nonlocal) for each in ast.walk(check)):
        return []
    given = ast.Assign([ast.Name(check.args.args[0].arg, ast.Store())], call.args[0])
    others = [each for each in before if each is not check]
    return [*others, ast.fix_missing_locations(ast.copy_location(given, last)), *check.body]


def _run_setup(setup: str, names: dict[str, Any]) -> None:
    """Run a setup, if it is Python, without the functions of the answer: the last one, and those without a body."""
    try:
        body = ast.parse(setup).body
    except (SyntaxError, ValueError):  # a prompt in words
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


def _compare(pair: Mapping[str, Any], names: Mapping[str, Any]) -> None:
    function = names.get(str(pair["call"]))
    if function is None:
        raise NameError(f"the answer does not define {pair['call']!r}"[:200])
    value = function(*pair.get("args", ()), **pair.get("named", {}))
    if not _same(value, pair["returns"]):
        raise AssertionError(f"{value!r:.80} instead of {pair['returns']!r:.80}")


def _same(value: Any, right: Any) -> bool:
    """Whether a value is right as JSON writes it: a tuple as a list, keys as texts, numbers up to rounding."""
    if isinstance(value, bool) or isinstance(right, bool):
        return value is right
    if isinstance(value, int | float) and isinstance(right, int | float):
        return value == right or (isinstance(right, float) and abs(value - right) <= 1e-9 * max(1.0, abs(right)))
    if isinstance(value, list | tuple) and isinstance(right, list):
        return len(value) == len(right) and all(map(_same, value, right))
    if isinstance(value, dict) and isinstance(right, dict):
        said = {each if isinstance(each, str) else json.dumps(each): content for each, content in value.items()}
        return said.keys() == right.keys() and all(_same(said[each], right[each]) for each in right)
    return type(value) is type(right) and bool(value == right)


def _reference(value: Any) -> str | int:
    if isinstance(value, Remote):
        reference: str | int = object.__getattribute__(value, "_reference")
        return reference
    raise UnfitTestError(f"a test gives the answer a value that stays in the test's process ({type(value).__name__})")


def _update(mine: Any, left: Any) -> None:
    """Give a changeable argument the content that the call left in it."""
    if type(mine) is type(left) and mine != left:
        if isinstance(mine, list):
            mine[:] = left
        elif isinstance(mine, dict | set):
            mine.clear()
            mine.update(left)


def _texts(reply: Any) -> tuple[str, str]:
    raised = reply.get("raised") if isinstance(reply, dict) else None
    if isinstance(raised, list) and len(raised) == 2 and all(isinstance(each, str) for each in raised):
        return raised[0], raised[1]
    return "RuntimeError", "the answer did not return a value"


def _sentence(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200].removesuffix(": ")
