"""The walks that CONTRIBUTING tells go through the code as it is."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text().partition("### Three walks")[2].partition("\n## ")[0]
WALKS = re.split(r"\n\*\*From ", TEXT)[1:]


def steps_of(walk):
    return re.findall(r"^\d+\. .*$", walk, re.MULTILINE)


def files_of(walk):
    return [file for step in steps_of(walk) for file in re.findall(r"`([\w/]+\.py)`", step)]


def names_in(file):
    """Modules that a file imports, anywhere in it, or names in a string, as what starts a process does."""
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{each.name}" for each in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@pytest.mark.parametrize("walk", WALKS, ids=lambda walk: walk.partition("**")[0])
def test_a_walk_has_ten_steps_enters_no_file_twice_and_reaches_each_from_one_before(walk):
    files, reached = files_of(walk), set()
    assert len(steps_of(walk)) == 10
    assert sorted(files) == sorted(set(files))
    for file in files:
        module = file.removesuffix(".py").replace("/", ".")
        assert not reached or module in reached, f"{file} is not reached"
        reached |= set(names_in(file))


def test_three_walks_are_told():
    assert len(WALKS) == 3
