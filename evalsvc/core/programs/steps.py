"""The parts of a test: statements of Python, or a call with its arguments and its value."""

from __future__ import annotations

import ast
import importlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from types import CodeType
from typing import Any

from evalsvc.core.programs.remote import UnfitTestError

Step = Callable[[dict[str, Any]], None]


def steps_of(test: str) -> Iterator[tuple[bool, Step]]:
    """The parts of a test in order, and whether each is a test of its own; others only prepare."""
    if (pair := pair_of(test)) is not None:
        kinds = isinstance(pair["call"], str), isinstance(pair.get("args", []), list)
        if not (all(kinds) and isinstance(pair.get("named", {}), dict)):
            raise UnfitTestError("a test has a 'call' that is not a name, or 'args' that are not a list")
        yield True, partial(_compare, pair)
        return
    tree = _parsed(test)
    body = _inlined(tree) or tree.body
    single = not any(map(_asserts, body))
    if single and body and not any(isinstance(node, ast.Call) for node in ast.walk(tree)):
        raise UnfitTestError("a test has no assertion: use Python with 'assert', or JSON with 'call' or 'stdout'")
    for statement in body:
        code = compile(ast.Module([statement], []), "test.py", "exec", dont_inherit=True)
        imports = isinstance(statement, ast.Import | ast.ImportFrom)
        step: Step = partial(_import, code) if imports else partial(exec, code)
        yield (single and statement is body[-1]) or _asserts(statement), step


def _parsed(test: str) -> ast.Module:
    try:
        return ast.parse(test)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UnfitTestError(f"a test is not Python ({error})"[:200]) from None


def _import(code: CodeType, names: dict[str, Any]) -> None:
    try:
        exec(code, names)
    except ImportError as error:
        raise UnfitTestError(f"a test needs a package that programs do not have ({error.name})"[:200]) from None


def modules_of(tests: Sequence[str]) -> dict[str, Any]:
    """The modules of Python that tests use without an import; those of the answer could be changed by it."""
    trees = [_parsed(test) for test in tests if pair_of(test) is None]
    nodes = [node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    used = {node.id for node in nodes if isinstance(node, ast.Name)} & sys.stdlib_module_names
    modules: dict[str, Any] = {}
    for name in sorted(used):
        with suppress(ImportError):  # a variable may have the name of a module that is not installed
            modules[name] = importlib.import_module(name)
    return modules


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
    if (
        check is None
        or len(check.args.args) != 1
        or len(call.args) != 1
        or call.keywords
        or not any(map(_asserts, check.body))
    ):
        return []
    if any(
        isinstance(each, ast.Return | ast.Yield | ast.YieldFrom | ast.Global | ast.Nonlocal) for each in ast.walk(check)
    ):
        return []
    given = ast.Assign([ast.Name(check.args.args[0].arg, ast.Store())], call.args[0])
    others = [each for each in before if each is not check]
    return [*others, ast.fix_missing_locations(ast.copy_location(given, last)), *check.body]


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
