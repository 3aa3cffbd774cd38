import json

import pytest

from evalsvc.core.digests import digest_json
from evalsvc.core.errors import InputError
from evalsvc.inputs.decoding_options import Decoding

REASONING = Decoding(reasoning_end="</think>", stop=("\n\n",))


@pytest.mark.parametrize(
    ("given", "digest"),
    [
        ({}, "3203b15c2674a26abdf5f60be17a2dea01a344e118ce0edf8e3d1011c2a568fc"),
        ({"prompts": ["a"], "top_k": 3}, "1d56aa2f4e59c5bef91956aa8f6217f7d8e6ae71f066137132f2315ddc9a31a1"),
    ],
)
def test_options_that_are_newer_than_stored_results_change_none_of_their_digests(given, digest):
    # Computed on 2026-11-29 by the revision before the options existed.
    decoding = Decoding(**given)
    assert digest_json(decoding.model_dump()) == digest_json(decoding.model_dump(mode="json")) == digest
    for changed in ({"reasoning_end": "</think>"}, {"json_schema": {}}):
        assert digest_json(decoding.but(changed).model_dump()) != digest


def test_the_answer_follows_the_end_of_reasoning():
    assert REASONING.answer("one\n\ntwo</think>\n\n4 </think>\n\nmore") == "4 </think>"
    assert REASONING.answer("never done") is None
    assert Decoding(stop=("b",)).answer("</think>ab") == "</think>a"


def test_a_schema_keeps_the_order_of_its_properties_as_text_and_as_an_object():
    schema = {"type": "object", "properties": {"b": {}, "a": {}}}
    given = Decoding(json_schema=schema)
    assert given == Decoding(json_schema=json.dumps(schema)) == Decoding().but(given.model_dump())
    assert list(json.loads(given.json_schema)["properties"]) == ["b", "a"]


@pytest.mark.parametrize("schema", ["[1]", "{", 3, [1], {"a": float("nan")}, {"a": {1}}])
def test_what_is_not_a_schema_is_refused_in_one_sentence(schema):
    with pytest.raises(InputError, match=r"^option json_schema: not a JSON object: use a JSON schema"):
        Decoding().but({"json_schema": schema})
