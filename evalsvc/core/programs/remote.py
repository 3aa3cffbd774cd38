"""The answer as its tests see it: objects that stay in its process, and values that come from there as data."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

from evalsvc.core.programs.lines import read_lines, write_line
from evalsvc.core.programs.values import UnsentError, decode, encode

_FORWARDED = {"__len__": "len", "__getitem__": "getitem", "__setitem__": "setitem", "__iter__": "iter"}
"""Operations on objects that stay with the answer. Comparisons are not among them: an answer must not decide them."""
Ask = Callable[..., Any]


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
        if operation != "next" and _texts(reply)[0] == "StopIteration":  # would end a loop of the test early
            raise RuntimeError("the answer raised StopIteration")
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
