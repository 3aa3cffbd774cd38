"""Items: the rows of a task, in the order and with the seeds that no other item changes."""

import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsvc.core.errors import InputError
from evalsvc.inputs.items.answers import answers_of
from evalsvc.inputs.items.item_set import ItemSet
from evalsvc.inputs.items.reading import read_items
from evalsvc.inputs.items.schedule import by_frequency, by_item
from evalsvc.inputs.items.schema import Items
from evalsvc.inputs.items.storage import load_items, store_items
from evalsvc.inputs.suites import load_suite
from evalsvc.plugins.items import Message
from evalsvc.plugins.rng import item_seeds
from evalsvc.plugins.samples import Texts
from evalsvc.store.artifacts import Artifacts

ROWS = [
    {"Prompt": "a cat", "ref": "eine Katze", "Category": "animals", "lang": "de"},
    {"Prompt": 'a "dog",\twith\u2028a hat', "ref": "un chien", "Category": "animals", "lang": "fr"},
    {"Prompt": "two\nlines", "ref": "", "Category": "text", "lang": "de"},
]
COLUMNS = {"prompt": "Prompt", "target": "ref", "group": "Category", "tags": ("lang",)}


def read(path, **columns):
    return read_items(Items(file=str(path), **columns)).items


def written(folder, name, rows=ROWS):
    """The rows as a file of the format that its name asks for."""
    path, suffix = folder / name, name.rpartition(".")[2]
    if suffix == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif suffix == "parquet":
        pa.parquet.write_table(pa.Table.from_pylist(rows), path)
    else:
        import csv

        with path.open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, rows[0], dialect="excel-tab" if suffix == "tsv" else "excel")
            writer.writeheader()
            writer.writerows(rows)
    return path


def test_every_format_gives_the_same_items(tmp_path):
    names = ("a.jsonl", "a.csv", "a.tsv", "a.parquet")
    sets = [read(written(tmp_path, name), **COLUMNS) for name in names]
    assert {each.sha256 for each in sets} == {sets[0].sha256}
    assert sets[0].prompts == tuple(row["Prompt"] for row in ROWS)
    assert sets[0].targets == (("eine Katze",), ("un chien",), ())
    assert sets[0].tags == {"lang": ("de", "fr", "de")}


def test_a_text_file_has_a_prompt_a_line(tmp_path):
    (tmp_path / "p.txt").write_bytes("\ufeffa cat\r\na dog\u2028x\r\n".encode())
    assert read(tmp_path / "p.txt").prompts == ("a cat", "a dog\u2028x")


def test_a_corrected_target_changes_the_content_but_not_the_conditions(tmp_path):
    before = read(written(tmp_path, "a.jsonl"), **COLUMNS)
    after = read(written(tmp_path, "b.jsonl", [{**row, "ref": "x", "lang": "y"} for row in ROWS]), **COLUMNS)
    assert before.ids == after.ids
    assert before.conditions == after.conditions
    assert before.sha256 != after.sha256


def test_equal_conditions_are_different_items_by_their_occurrence(tmp_path):
    items = read(written(tmp_path, "a.jsonl", [ROWS[0], ROWS[0], ROWS[1]]), **COLUMNS)
    assert len(set(items.ids)) == 3
    assert items.ids[1] == f"{items.ids[0]}-2"


@settings(max_examples=30, deadline=None)
@given(
    ids=st.lists(st.text("abcdef", min_size=1, max_size=6), min_size=2, max_size=30, unique=True),
    seed=st.integers(0, 2**63 - 1),
    data=st.data(),
)
def test_further_items_move_and_change_no_other(ids, seed, data):
    def of(names):
        import torch

        items = ItemSet(tuple(names), np.arange(len(names))).ordered(seed)
        draws = torch.arange(2).repeat_interleave(len(names))
        seeds = item_seeds(seed, torch.from_numpy(np.tile(items.hashes, 2)), draws).tolist()
        return items.ids, dict(zip([(name, d) for d in (0, 1) for name in items.ids], seeds, strict=True))

    some = data.draw(st.permutations(ids))[: max(1, len(ids) // 2)]
    (all_ids, all_seeds), (some_ids, some_seeds) = of(ids), of(some)
    assert tuple(each for each in all_ids if each in some) == some_ids
    assert some_seeds.items() <= all_seeds.items()
    assert len(set(all_seeds.values())) == len(all_seeds)


@given(st.integers(1, 20), st.integers(1, 5), st.integers(0, 100), st.integers(0, 100))
def test_samples_are_whole_items_one_after_the_other(items, draws, start, more):
    rows, numbers = by_item(items, draws, start, start + more)
    whole = by_item(items, draws, 0, start + more)
    assert np.array_equal(rows, whole[0][start:])
    assert np.array_equal(numbers, whole[1][start:])
    assert len(set(zip(*(each.tolist() for each in whole), strict=True))) == start + more
    first_round = whole[0][: items * draws]
    assert np.array_equal(first_round, np.sort(first_round))


@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=12).filter(any), st.integers(0, 2**63 - 1), st.integers(1, 500)
)
@settings(max_examples=40, deadline=None)
def test_class_labels_follow_the_reference_in_every_prefix(counts, seed, n):
    counts = np.array(counts)
    rows, draws = by_frequency(counts, seed, 0, n)
    found = np.bincount(rows, minlength=len(counts))
    assert np.abs(np.cumsum(found) - n * np.cumsum(counts) / counts.sum()).max() < 1 + np.log(n + 1)
    assert not found[counts == 0].any()
    assert len(set(zip(rows.tolist(), draws.tolist(), strict=True))) == n
    again = by_frequency(counts, seed, n // 2, n)
    assert np.array_equal(again[0], rows[n // 2 :])
    assert np.array_equal(again[1], draws[n // 2 :])


def test_items_are_stored_by_their_content(tmp_path):
    items = read(
        written(
            tmp_path,
            "a.jsonl",
            [
                {"id": "x", "m": [{"role": "user", "content": "hi"}], "c": ["a", "b"], "r": "B", "t": ["1", "2"]},
                {"id": "y", "m": [{"role": "user", "content": "ho"}], "c": ["a", "b"], "r": 0, "t": 3},
            ],
        ),
        prompt="m",
        choices="c",
        answer="r",
        target="t",
    )
    assert items.prompts[0] == (Message("user", "hi"),)
    assert items.answers == (1, 0)
    assert items.targets == (("1", "2"), ("3",))
    artifacts = Artifacts(tmp_path / "artifacts")
    store_items(artifacts, items.ordered(7), {})
    assert load_items(artifacts, items.sha256).body == items.body


BAD = {
    "no.json": ("{}", "use one of .txt, .jsonl"),
    "empty.csv": ("a,b\n", "contains no items"),
    "few.csv": ("p,q\na,b\nc\n", "line 3 has 1 cells, but the header has 2"),
    "open.tsv": ('p\tq\n"a\tb\n', "line 2"),
    "twice.csv": ("p,p\na,b\n", "has two columns 'p'"),
    "nan.jsonl": ('{"p": NaN}\n', "line 1 is not valid JSON"),
    "deep.jsonl": ("[" * 100_000 + "\n", "line 1 is not valid JSON"),
    "list.jsonl": ("[1]\n", "line 1 is neither an object nor a string"),
    "half.jsonl": ('{"p": "\\ud800"}\n', "line 1: 'p' contains a lone surrogate"),
    "empty.jsonl": ('{"p": "x"}\n{"p": " "}\n', "line 2: 'p' is empty"),
    "bad.parquet": ("PAR1", "not a readable Parquet file"),
    "id.jsonl": ('{"id": "1", "p": "x"}\n\n{"id": 1, "p": "y"}\n', "line 3: 'id' has the id of .*line 1"),
    "latin.csv": (b"p\n\xe9\n", "is not UTF-8"),
    "column.csv": ("prompt\nx\n", "has no column 'p' for 'prompt'; the nearest are 'prompt'"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_with_its_row(name, tmp_path):
    content, message = BAD[name]
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message):
        read(tmp_path / name, prompt="p")


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ({"file": "q.jsonl"}, "no column of .* is used .it has 'q'.: add 'prompt: COLUMN'"),
        ({"file": "a\0.jsonl", "prompt": "q"}, "items.file"),
        ({"file": "q.jsonl", "promt": "q"}, "items.promt: is not a key of suites"),
        ({"file": "pipe.jsonl", "prompt": "q"}, "named pipe"),
        ({"file": "q.jsonl", "prompt": "q", "split": "x"}, "remove 'split'"),
        ({"file": "q.jsonl", "prompt": "q", "draws": 10**12}, "items.draws"),
        ({"labels": {"classes": 10**9}}, "items.labels.classes"),
        ({"labels": {"classes": 3}, "prompt": "q"}, "'prompt' applies to a file of items"),
        ({"labels": {"classes": 3}, "file": "q.jsonl"}, "name either a 'file' or 'labels"),
        ({}, "name either a 'file' or 'labels"),
    ],
)
def test_what_a_suite_says_of_its_items_is_checked(items, message, tmp_path):
    (tmp_path / "q.jsonl").write_text('{"q": "x"}')
    os.mkfifo(tmp_path / "pipe.jsonl")
    body = {"name": "t", "version": 1, "modality": "text", "items": items, "metrics": [{"metric": "self_bleu"}]}
    (tmp_path / "s.yaml").write_text(json.dumps(body))
    with pytest.raises(InputError, match=message):
        load_suite(str(tmp_path / "s.yaml"))


@pytest.mark.parametrize("value", ["-1", "1.5", "cat", "", "99999999999"])
def test_a_label_is_an_integer_from_zero(value, tmp_path):
    (tmp_path / "l.csv").write_text(f"y,z\n3,x\n{value},x\n")
    with pytest.raises(InputError, match="line 3: 'y' is not a class label"):
        read(tmp_path / "l.csv", label="y")


def test_a_template_is_filled_with_the_cells_of_its_row(tmp_path):
    rows = [{"question": "1+1?", "n": 2}, {"question": "{n}?", "n": None}]
    items = read(written(tmp_path, "q.jsonl", rows), prompt="Q: {question} {{x}}\nA:", target="{n}")
    assert items.prompts == ("Q: 1+1? {x}\nA:", "Q: {n}? {x}\nA:")
    assert items.targets == (("2",), ())
    with pytest.raises(InputError, match="no column 'quest' for 'prompt'; the nearest are 'question'"):
        read(tmp_path / "q.jsonl", prompt="Q: {quest}")


@pytest.mark.parametrize(
    ("stop", "extract", "text", "answer"),
    [
        (("\n", "Q:"), "", "yes Q: no\n", "yes "),
        ((), r"answer is (\w+)", "The answer is 42, the answer is 43", "42"),
        (("\n",), r"\d+", "none\n42", ""),
        ((), r"\d+", "x 42 7", "42"),
        ((), r"(\d+)?x", "x", ""),
    ],
)
def test_the_answer_is_what_stop_and_extract_leave(stop, extract, text, answer):
    items = Items(file="x", stop=stop, extract=extract)
    assert answers_of(items, Texts((text, ""))).items[0] == answer
    assert answers_of(None, Texts((text,))).items == (text,)


def test_a_pattern_that_cannot_be_compiled_is_an_error_of_the_suite():
    with pytest.raises(ValueError, match="'extract' .* is not a pattern"):
        Items(file="x", extract="(")
