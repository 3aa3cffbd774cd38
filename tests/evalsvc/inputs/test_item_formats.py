"""Item files of benchmarks as they are published, with tasks of our own in their formats."""

import gzip
import json

import pytest
from pydantic import ValidationError

from evalsvc.core.errors import InputError
from evalsvc.core.programs.verdicts import Limits, judge
from evalsvc.inputs.items.reading import read_items
from evalsvc.inputs.items.schema import Items

HUMANEVAL = [
    {
        "task_id": f"HumanEval/{i}",
        "prompt": 'from typing import List\n\n\ndef total(xs: List[int]) -> int:\n    """ The sum.\n    """\n',
        "entry_point": "total",
        "canonical_solution": "    return sum(xs)\n",
        "test": "\n\ndef check(candidate):\n    assert candidate([1, 2]) == 3\n    assert not candidate([])\n",
    }
    for i in range(2)
]
MBPP = {
    "task_id": 11,
    "text": "Write a function to find the depth of a tree.",
    "code": "class Node:\n    def __init__(self, x): self.left = 0\ndef depth(n): return n and 1 + depth(n.left) or 0",
    "test_list": ["assert depth(root) == 2", "assert depth(None) == 0"],
    "test_setup_code": "root = Node(1)\nroot.left = Node(2)",
    "challenge_test_list": [],
}
SANITIZED = {
    "source_file": "Benchmark Questions Verification V2.ipynb",
    "task_id": 3,
    "prompt": "Write a function for the area of a disk.",
    "code": "import math\ndef area(r): return math.pi * r * r",
    "test_imports": ["import math"],
    "test_list": ["assert math.isclose(area(2), 4 * math.pi, rel_tol=0.001)"],
}


def read(path, **more):
    return read_items(Items(file=str(path), **more)).items


def passes(items, row, program):
    prompt = items.prompts[row]
    return judge((prompt + program, program), prompt, items.targets[row], Limits(20.0, 2**29))


def test_humaneval_is_read_packed_and_unpacked(tmp_path):
    lines = "".join(json.dumps(task) + "\n" for task in HUMANEVAL).encode()
    (tmp_path / "HumanEval.jsonl").write_bytes(lines)
    (tmp_path / "HumanEval.jsonl.gz").write_bytes(gzip.compress(lines))
    sets = [read(tmp_path / name, format="humaneval") for name in ("HumanEval.jsonl", "HumanEval.jsonl.gz")]
    assert {each.sha256 for each in sets} == {sets[0].sha256}
    assert (sets[0].ids, sets[0].prompts[0]) == (("HumanEval/0", "HumanEval/1"), HUMANEVAL[0]["prompt"])
    assert passes(sets[0], 0, HUMANEVAL[0]["canonical_solution"]).failures == ("", "")
    assert passes(sets[0], 1, "    return 3\n").failures == ("", "AssertionError")


@pytest.mark.parametrize(("name", "content"), [("mbpp.jsonl", MBPP), ("sanitized-mbpp.json", [SANITIZED])])
def test_mbpp_is_read_whole_and_sanitized_with_its_setup_and_imports(tmp_path, name, content):
    (tmp_path / name).write_text(json.dumps(content))
    items, task = read(tmp_path / name, format="mbpp"), content if isinstance(content, dict) else content[0]
    assert items.ids == (str(task["task_id"]),)
    assert all(each in items.prompts[0] for each in (task.get("text") or task["prompt"], *task["test_list"]))
    assert passes(items, 0, task["code"]).failures == ("",) * len(task["test_list"])
    assert not passes(items, 0, task["code"].replace("return ", "return 1 + ")).passed
    own = read(tmp_path / name, format="mbpp", prompt="Task {task_id}")
    assert (own.prompts, own.targets) == ((f"Task {task['task_id']}",), items.targets)


def test_what_is_not_of_a_format_is_an_error_that_says_so(tmp_path):
    path = tmp_path / "tasks.jsonl"
    for row, why in (
        ({"prompt": "x"}, "line 1 is not an item of mbpp .it has no 'test_list'.: remove 'format'"),
        ({"text": "x", "test_list": "assert f()"}, "a column has another type"),
        ({"text": None, "test_list": []}, "a column has another type"),
    ):
        path.write_text(json.dumps(row))
        with pytest.raises(InputError, match=why):
            read(path, format="mbpp")
    with pytest.raises(ValidationError, match="'humaneval' or 'mbpp'"):
        Items(file="x", format="apps")
    with pytest.raises(ValidationError, match="'format' applies to a file of items"):
        Items(labels={"classes": 3}, format="mbpp")
    assert "format" not in Items(file="x", format="mbpp").facts


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.json", b"{", "not valid JSON"),
        ("a.json", b'{"a": 1}', "json .a list of objects."),
        ("a.json", b"[NaN]", "not valid JSON"),
        ("a.json", b"[" * 100_000, "not valid JSON"),
        ("a.jsonl.gz", b"{}", "Not a gzipped file"),
        ("a.jsonl.gz", gzip.compress(b"{}\n" * 99, mtime=0)[:-9], "cannot read items"),
        ("a.csv.gz", b"", "use one of"),
    ],
)
def test_damaged_files_are_errors_that_name_them(tmp_path, name, content, why):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}.*{why}|{why}"):
        read(tmp_path / name, prompt="a")
