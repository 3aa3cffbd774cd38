"""Scorers of texts against facts, and against the implementations whose values they give."""

import io
import json
import math
import sys

import jsonschema
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torchmetrics.functional.text import squad

from evalsvc.builtin.scorers.contains import Contains
from evalsvc.builtin.scorers.exact_match import ExactMatch
from evalsvc.builtin.scorers.json_schema import JsonSchema
from evalsvc.builtin.scorers.numeric import Numeric
from evalsvc.builtin.scorers.regex import Regex
from evalsvc.builtin.scorers.rouge import Rouge, rouge_score
from evalsvc.core.errors import InputError
from evalsvc.plugins.items import ItemBatch
from evalsvc.plugins.samples import Texts

CPU = torch.device("cpu")
HOSTILE = (
    "",
    " ",
    "a",
    "é",
    "e\u0301",
    "👩‍👩‍👧",
    "東京は日本の首都です",
    "\ud800",
    "\x1b[31m",
    "=1+1",
    "The cat.",
    "x " * 999,
    "\u202e",
)
texts = st.text(st.sampled_from("ab the, .é漢\n1-\ud800"), max_size=30) | st.sampled_from(HOSTILE)
quick = settings(max_examples=30, phases=[Phase.generate], deadline=None, database=None, derandomize=True)


def scored(scorer, samples, targets):
    """The outcome for each text with its targets."""
    targets = tuple(each if isinstance(each, tuple) else (each,) for each in targets)
    ids = tuple(str(i) for i in range(len(samples)))
    return scorer.score(
        Texts(tuple(samples)), ItemBatch(ids, torch.zeros(len(ids), dtype=torch.int64), targets=targets)
    )


def one(scorer, text, *targets):
    """The value of the only quantity, or the reason for which there is none."""
    outcome = scored(scorer, [text], [targets])
    (value,) = next(iter(outcome.values.values())).tolist()
    assert math.isnan(value) is bool(outcome.reasons)
    return outcome.reasons.get(0, value)


@pytest.mark.parametrize(
    ("options", "text", "targets", "value"),
    [
        ({}, "Paris", ("Paris",), 1.0),
        ({}, "Paris ", ("Paris",), 0.0),
        ({}, "Lyon", ("Paris", "Lyon"), 1.0),
        ({}, "", ("",), 1.0),
        ({}, "", ("Paris",), 0.0),
        ({}, "e\u0301", ("é",), 0.0),
        ({"normalize": "strip"}, " Paris\n", ("Paris",), 1.0),
        ({"normalize": "strip"}, "paris", ("Paris",), 0.0),
        ({"normalize": "quasi"}, "The  U.S.A. is a place", ("usa is place!",), 1.0),
        ({"normalize": "quasi"}, "the", ("a",), 1.0),
        ({"normalize": "quasi"}, "theory", ("ory",), 0.0),
        ({"ignore_case": True}, "PARIS", ("paris",), 1.0),
        ({"ignore_punctuation": True}, "Paris.", ("Paris",), 1.0),
        ({"ignore_punctuation": True}, "paris.", ("Paris",), 0.0),
    ],
)
def test_exact_match_knows_which_differences_count(options, text, targets, value):
    assert one(ExactMatch(CPU, **options), text, *targets) == value


@quick
@given(texts, st.lists(texts, min_size=1, max_size=3))
def test_quasi_exact_match_is_that_of_the_squad_script(text, targets):
    prediction = {"prediction_text": text, "id": "1"}
    reference = {"answers": {"answer_start": [0] * len(targets), "text": targets}, "id": "1"}
    assert (
        one(ExactMatch(CPU, normalize="quasi"), text, *targets)
        == float(squad(prediction, reference)["exact_match"]) / 100
    )


def test_a_text_contains_a_target():
    assert one(Contains(CPU), "It is Paris, I think.", "Lyon", "Paris") == 1.0
    assert one(Contains(CPU), "It is paris.", "Paris") == 0.0
    assert one(Contains(CPU, ignore_case=True), "It is paris.", "Paris") == 1.0
    assert one(Contains(CPU), "", "Paris") == 0.0
    assert one(Contains(CPU, normalize="quasi"), "x", "the") == "the target is empty, and every text contains it"


def test_a_pattern_comes_from_the_suite_or_from_the_item():
    assert one(Regex(CPU, pattern=r"^\d+$"), "42") == 1.0
    assert one(Regex(CPU, pattern=r"^\d+$"), "a 42") == 0.0
    assert one(Regex(CPU), "colour", "color", "(?i)COLOU?R") == 1.0
    assert one(Regex(CPU), "a", "(").startswith("the target '(' is not a pattern of RE2 (missing ): ()")
    assert Regex(CPU, pattern="a").info.reads == frozenset()
    assert Regex(CPU, pattern="a").info.protocol != Regex(CPU, pattern="b").info.protocol
    for pattern in ("(", r"(a)\1", "(?=a)", "\ud800", "a" * 1001, r"(\pL?){900}"):
        with pytest.raises(InputError, match="option 'pattern' of scorer 'regex'"):
            Regex(CPU, pattern=pattern)


def test_no_pattern_backtracks():
    assert one(Regex(CPU, pattern=r"(a+)+$"), "a" * 100_000 + "!") == 0.0
    assert one(Numeric(CPU), "1,111" * 20_000 + "," + "9" * 100_000, "9" * 99_999) == 0.0
    assert one(JsonSchema(CPU, schema={"pattern": "^(a+)+$"}), json.dumps("a" * 100_000 + "!")) == 1.0


@pytest.mark.parametrize(
    ("options", "text", "targets", "value"),
    [
        ({}, "so 3 + 4 = 7", ("7",), 1.0),
        ({"which": "first"}, "so 3 + 4 = 7", ("3",), 1.0),
        ({}, "It costs $1,234.50.", ("1234.5",), 1.0),
        ({}, "1,234,567", ("1234567",), 1.0),
        ({}, "1,2", ("2",), 1.0),
        ({}, "-5", ("5",), 0.0),
        ({}, "-$5", ("-5",), 1.0),
        ({}, "\u22125", ("-5",), 1.0),
        ({}, "pages 3-5", ("5",), 1.0),
        ({}, "6.022e23", ("602200000000000000000000",), 1.0),
        ({}, "1.2E-3", (".0012",), 1.0),
        ({}, "45%", ("0.45",), 1.0),
        ({}, "45 %", ("45",), 0.0),
        ({"percent": "number"}, "45 %", ("45",), 1.0),
        ({}, "0.1", ("0.10", "3"), 1.0),
        ({}, "9007199254740993", ("9007199254740992",), 0.0),
        ({"absolute": 0.1}, "0.3", ("0.2",), 1.0),
        ({"absolute": 0.1}, "0.31", ("0.2",), 0.0),
        ({"relative": 0.01}, "101", ("100",), 1.0),
        ({"relative": 0.01}, "101.1", ("100",), 0.0),
        ({"relative": 1.0}, "1e999999", ("1",), 0.0),
        ({}, "٣", ("3",), 1.0),
        ({}, "nothing", ("3",), 0.0),
        ({}, "NaN", ("3",), 0.0),
        ({}, "", ("3",), 0.0),
        ({}, "3", ("NaN",), "the target 'NaN' has no number"),
        ({}, "3", ("NaN", "3"), 1.0),
    ],
)
def test_the_number_of_a_text_is_compared_with_a_tolerance(options, text, targets, value):
    assert one(Numeric(CPU, **options), text, *targets) == value


@quick
@given(st.decimals(allow_nan=False, allow_infinity=False), st.sampled_from(["{}", "It is {}.", "1 and {} !"]))
def test_every_decimal_is_read_back(number, sentence):
    assert one(Numeric(CPU), sentence.format(number), str(number)) == 1.0
    assert one(Numeric(CPU), sentence.format(number), str(number + 1)) == float(number == number + 1)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "ab", 0.5]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=6,
)
schemas = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["object", "array", "string", "integer", "number", "boolean", "null"]),
        "enum": st.lists(values, min_size=1, max_size=3),
        "required": st.lists(st.sampled_from("ab"), unique=True),
        "minimum": st.integers(-2, 2),
        "uniqueItems": st.just(True),
        "pattern": st.sampled_from(["^a", "b$"]),
        "properties": st.fixed_dictionaries({"a": st.sampled_from([{"type": "integer"}, {"const": None}, False])}),
        "additionalProperties": st.booleans(),
    },
)


@quick
@given(values, schemas)
def test_json_conforms_as_jsonschema_has_it(value, schema):
    validator = jsonschema.Draft202012Validator(schema)
    for scorer, targets in ((JsonSchema(CPU, schema=schema), ()), (JsonSchema(CPU), (json.dumps(schema),))):
        outcome = scored(scorer, [json.dumps(value)], [targets])
        assert outcome.values["json_valid"].tolist() == [1.0]
        assert outcome.values["schema_valid"].tolist() == [float(validator.is_valid(value))]


@pytest.mark.parametrize(
    ("text", "value"),
    [("{}", 1.0), (" [1, 2] ", 1.0), ("9" * 4000, 1.0), ("[" * 190 + "]" * 190, 1.0)]
    + [
        (text, 0.0) for text in ("", "{", "{'a': 1}", "NaN", "[1,]", "\ud800", "[" * 100_000, "9" * 100_000, "```{}```")
    ],
)
def test_json_is_that_of_the_standard(text, value):
    outcome = scored(JsonSchema(CPU, schema={}), [text], [()])
    assert [outcome.values[name].tolist() for name in ("json_valid", "schema_valid")] == [[value], [value]]


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"$ref": "http://example.com/schema.json"}, "Retrieval is disabled"),
        ({"$ref": "file:///etc/passwd"}, "Retrieval is disabled"),
        ({"type": "text"}, "is not a JSON schema"),
        ({"pattern": "(?=a)"}, 'is not a "regex"'),
    ],
)
def test_a_schema_that_cannot_be_used_is_named(schema, why):
    with pytest.raises(InputError, match=f"invalid option schema of scorer 'json-schema'.*{why}"):
        JsonSchema(CPU, schema=schema)
    assert why in one(JsonSchema(CPU), "1", json.dumps(schema))


def test_rouge_of_known_texts():
    values = scored(
        Rouge(CPU), ["the cat sat", "", "the cat"], ["the cat sat", "the cat", ("a dog", "the cat sat")]
    ).values
    assert [values[name].tolist() for name in ("rouge1", "rougel", "rougelsum")] == [pytest.approx([1.0, 0.0, 0.8])] * 3
    assert values["rouge2"].tolist() == pytest.approx([1.0, 0.0, 2 / 3])
    assert one(Rouge(CPU), "東京", "東京").startswith("the target has no words of a-z and 0-9")


@quick
@given(texts, st.lists(texts, min_size=1, max_size=3), st.booleans())
def test_rouge_is_that_of_rouge_score(text, targets, stemmer):
    names = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
    outcome = scored(Rouge(CPU, stemmer=stemmer), [text], [tuple(targets)])
    expected = rouge_score().RougeScorer(names, use_stemmer=stemmer).score_multi(targets, text)
    if not outcome.reasons:
        assert [outcome.values[name.lower()].item() for name in names] == [expected[name].fmeasure for name in names]
    assert bool(outcome.reasons) is all(
        not any(c in "abcdefghijklmnopqrstuvwxyz1" for c in each.lower()) for each in targets
    )


def test_the_logs_of_rouge_score_never_close_a_stream_of_the_process(monkeypatch):
    own = io.StringIO()
    monkeypatch.setattr(sys, "stderr", own)
    Rouge(CPU)
    monkeypatch.undo()
    handlers = sys.modules["absl.logging"]  # imported at the top, it would hold the stderr of the collection
    handlers.get_absl_handler().python_handler.close()  # as uvicorn does when it configures logging
    assert not own.closed
    assert not sys.__stderr__.closed


def test_a_text_too_long_for_a_table_of_all_pairs_of_words_fails_by_name():
    outcome = scored(Rouge(CPU), ["x " * 50_000, "x y"], ["x " * 400, "x y"])
    assert outcome.reasons == {0: "the text of 50000 words is too long for ROUGE with a target of 400"}
    assert outcome.failed == {0}
    assert outcome.values["rougel"].tolist()[1] == 1.0
