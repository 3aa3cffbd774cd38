"""What of the tokens of a language model is its answer: after its reasoning, in a JSON schema, to a system message."""

import json
import sys

import pytest
import torch

from evalsvc.builtin.generators.causal_lm import CausalLM
from evalsvc.builtin.language_models import prompts
from evalsvc.core.errors import CheckpointError, InputError
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.decoding_options import Decoding
from evalsvc.plugins.samples import SampleRequest
from tests.evalsvc.language_models import save, tokenizer

SCHEMA = {
    "type": "object",
    "properties": {"name": {"enum": ["Anne", "Mary"]}, "age": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save(tmp_path_factory.mktemp("models") / "tiny", "llama")


def write(folder, count=30, **decoding):
    opened = Checkpoint.open(folder, "tiny", 1)
    generator = CausalLM(opened, torch.device("cpu"), decoding=Decoding(**{"max_tokens": 40} | decoding))
    return generator.sample(SampleRequest.of(1, 0, count))


@pytest.mark.parametrize("end", ["e", "<s>"], ids=["text", "special token"])
def test_the_answer_follows_the_reasoning_and_without_its_end_the_sample_fails(folder, end):
    whole = write(folder)
    drawn = write(folder, reasoning_end=end)
    if end == "e":
        expected = {i: text.partition(end)[2].lstrip() for i, text in enumerate(whole.samples.items) if end in text}
        assert {i: text for i, text in enumerate(drawn.samples.items) if i not in drawn.failures} == expected
    assert 0 < len(drawn.failures) < 30
    assert set(drawn.failures.values()) == {f"no answer after the reasoning: {end!r} does not occur within 40 tokens"}
    assert drawn.usage.tokens.tolist() == whole.usage.tokens.tolist()


def test_stop_strings_count_in_the_answer_alone(folder):
    free = write(folder, reasoning_end="e")
    cut = write(folder, reasoning_end="e", stop=["a"])
    assert cut.failures == free.failures
    assert cut.samples.items == tuple(text.partition("a")[0] for text in free.samples.items) != free.samples.items


@pytest.mark.parametrize("reasoning", ["", "<s>"])
def test_answers_match_the_schema_with_and_without_reasoning(folder, reasoning):
    pytest.importorskip("llguidance")
    drawn = write(folder, json_schema=SCHEMA, reasoning_end=reasoning)
    answers = [text for row, text in enumerate(drawn.samples.items) if row not in drawn.failures]
    complete = [json.loads(text) for text in answers if text.endswith("}")]
    assert len(complete) > len(answers) / 2
    assert all(list(each) == ["name", "age"] and each["name"] in ("Anne", "Mary") for each in complete)
    assert all(0 <= each["age"] <= 99 for each in complete)
    alone = write(folder, count=1, json_schema=SCHEMA, reasoning_end=reasoning)
    assert alone.samples.items[0] == drawn.samples.items[0]


def test_a_schema_that_cannot_be_followed_is_refused_in_one_sentence(folder, monkeypatch):
    pytest.importorskip("llguidance")
    for schema in ({"$ref": "http://127.0.0.1:1/x.json"}, {"type": "nothing"}, {"allOf": [False]}):
        with pytest.raises(InputError, match=r"^json_schema of generator 'causal-lm' cannot be followed \(") as error:
            write(folder, json_schema=schema)
        assert "\n" not in str(error.value)
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(InputError, match=r"needs its extra: pip install 'evalsvc\[structured\]'"):
        write(folder, json_schema=SCHEMA)


def test_a_system_message_reaches_the_model_or_is_an_error(folder, monkeypatch):
    coder = tokenizer()
    coder.chat_template = "rendered below"
    coder.save_pretrained(folder)
    chat = {"prompts": ["hi"], "chat": True, "system": " be brief ", "temperature": 0}
    monkeypatch.setattr(prompts, "render", lambda *_: ["<s><<be brief>>[user]hi"])  # trimmed, after the prefix
    by_hand = write(folder, 1, prompts=["<<be brief>>[user]hi"], temperature=0)
    assert write(folder, 1, **chat).samples.items == by_hand.samples.items
    monkeypatch.setattr(prompts, "render", lambda *_: ["<s>[user]hi"])
    with pytest.raises(CheckpointError, match="leaves the system message out: omit it, or use another template"):
        write(folder, 1, **chat)
