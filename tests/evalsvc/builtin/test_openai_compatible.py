"""Against a server that returns log-probabilities of prompts."""

import json

import pytest
import torch

from evalsvc.builtin.extractors.language import LikelihoodExtractor
from evalsvc.builtin.generators.causal_lm import CausalLM
from evalsvc.builtin.generators.openai_compatible import Served, openai_compatible
from evalsvc.core.errors import InputError, ModelError, detail_of
from evalsvc.inputs import endpoint_requests
from evalsvc.inputs import endpoints as module
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.decoding_options import Decoding
from evalsvc.plugins.conformance import check_generator
from evalsvc.plugins.interfaces import Likelihood
from evalsvc.plugins.samples import SampleRequest, Texts
from tests.evalsvc.completions_server import completions_server
from tests.evalsvc.language_models import save

CPU = torch.device("cpu")
TEXTS = ("Anne had not wanted", "", "this visit to Uppercross")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save(tmp_path_factory.mktemp("served"), "llama")


@pytest.fixture(scope="module")
def url(folder):
    with completions_server(folder) as url:
        yield url


@pytest.fixture(autouse=True)
def key(monkeypatch, home):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")


@pytest.fixture
def checkpoint(tmp_path):
    def write(url, **more):
        (tmp_path / "endpoint.json").write_text(json.dumps({"url": url, "model": "tiny"} | more))
        return Checkpoint.open(tmp_path / "endpoint.json", "served", 1)

    return write


def test_a_served_model_keeps_the_contract_of_a_generator(url, checkpoint):
    generator = openai_compatible(checkpoint(url), CPU, decoding=Decoding(prompts=("The ", "Anne "), max_tokens=8))
    assert all(finding.ok for finding in check_generator(generator, CPU))


def test_likelihoods_are_those_of_the_model_itself(url, folder, checkpoint):
    generator = openai_compatible(checkpoint(url), CPU)
    assert isinstance(generator, Likelihood)
    found = generator.nll(Texts(TEXTS), SampleRequest.of(0, 0, 3))
    expected = LikelihoodExtractor(folder).extract(TEXTS)
    assert found.nats.numpy() == pytest.approx(expected["nll"], rel=1e-5)
    assert found.units.tolist() == expected["tokens"].tolist()


def test_likelihoods_after_a_prompt_are_those_of_the_model_itself(url, folder, checkpoint):
    prompts, texts = ("Anne had not wanted ", "Anne had", ""), ("this visit", "", " not wanted")
    asked = SampleRequest.of(0, 0, 3, prompts=prompts)
    found = openai_compatible(checkpoint(url), CPU).nll(Texts(texts), asked)
    own = CausalLM(Checkpoint.open(folder, "tiny", 1), CPU, decoding=Decoding(max_tokens=4)).nll(Texts(texts), asked)
    assert found.units.tolist() == own.units.tolist()
    # The server puts a beginning before every prompt; the tokenizer alone, which the harness follows, does not.
    assert found.nats[2].item() == pytest.approx(own.nats[2].item(), rel=1e-5)
    whole, start = (
        LikelihoodExtractor(folder).extract([text])["nll"][0]
        for text in ("Anne had not wanted this visit", "Anne had not wanted")
    )
    assert found.nats[0].item() == pytest.approx(whole - start, rel=1e-4)


def test_a_server_without_prompt_probabilities_still_writes(url, checkpoint):
    generator = openai_compatible(checkpoint(url.replace("/v1", "/plain/v1")), CPU, decoding=Decoding(max_tokens=4))
    assert isinstance(generator, Served)
    assert not isinstance(generator, Likelihood)
    assert len(generator.sample(SampleRequest.of(1, 0, 2)).samples) == 2


def test_a_busy_server_is_asked_again_and_a_dead_one_is_named(url, checkpoint, monkeypatch):
    monkeypatch.setattr(endpoint_requests.Pace, "pause", lambda *_: False)
    busy = checkpoint(url.replace("/v1", "/busy/v1"), parallel=1)
    drawn = openai_compatible(busy, CPU, decoding=Decoding(max_tokens=4)).sample(SampleRequest.of(1, 0, 3))
    assert len(drawn.samples) == 3
    assert not drawn.failures
    with pytest.raises(ModelError, match=r"in 5 attempts \(the connection failed\): check that it") as caught:
        openai_compatible(checkpoint("http://127.0.0.1:9/v1"), CPU)
    assert detail_of(caught.value).startswith("http://127.0.0.1:9/v1/completions: the connection failed")


def test_every_option_is_sent_so_that_no_default_of_the_server_decides(monkeypatch):
    sent = []
    monkeypatch.setattr(module.Endpoint, "_post", lambda _, path, body: sent.append((path, body)) or (ANSWER, 0.5))
    asked = Decoding(temperature=0.7, top_p=0.9, max_tokens=5, stop=("\n",))
    for dialect in ("vllm", "llama.cpp"):
        endpoint = module.Endpoint(url="http://x/v1", model="m", dialect=dialect)
        assert endpoint.write("hi", asked, 2**40 + 3).text == "one"
    chat = Decoding(chat=True, system="brief")
    module.Endpoint(url="http://x/v1", model="m", dialect="openai").write("hi", chat, 1)
    plain = {"model": "m", "prompt": "hi", "temperature": 0.7, "top_p": 0.9, "max_tokens": 5, "seed": 3, "stop": ["\n"]}
    assert sent[0] == ("completions", plain | {"top_k": -1, "repetition_penalty": 1.0, "min_p": 0.0})
    assert sent[1] == ("completions", plain | {"top_k": 0, "repeat_penalty": 1.0, "min_p": 0.0})
    assert [message["role"] for message in sent[2][1]["messages"]] == ["system", "user"]
    module.Endpoint(url="http://x/v1", model="m", dialect="transformers").write("hi", asked, 1)
    assert json.loads(sent[3][1]["generation_config"]) == {"do_sample": True, "top_k": 0, "repetition_penalty": 1.0}
    with pytest.raises(InputError, match="supports neither top_k"):
        module.Endpoint(url="http://x/v1", model="m", dialect="openai").write("hi", Decoding(top_k=5), 1)


SCHEMA = {"type": "object", "properties": {"b": {"type": "integer"}, "a": {"type": "string"}}}
NAMED = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True}}


@pytest.mark.parametrize(
    ("dialect", "chat", "sent"),
    [
        ("vllm", False, {"response_format": NAMED}),
        ("vllm", True, {"response_format": NAMED}),
        ("llama.cpp", False, {"json_schema": SCHEMA}),
        ("llama.cpp", True, {"response_format": NAMED}),
        ("openai", True, {"response_format": NAMED}),
        ("openai", False, "the dialect 'openai', which supports no json_schema without chat: add chat: true"),
        ("transformers", True, "the dialect 'transformers', which supports no json_schema: omit it"),
    ],
)
def test_a_schema_is_sent_as_each_server_takes_it_or_refused(monkeypatch, dialect, chat, sent):
    bodies = []
    monkeypatch.setattr(module.Endpoint, "_post", lambda _, path, body: bodies.append(body) or (ANSWER, 0.5))
    endpoint = module.Endpoint(url="http://x/v1", model="m", dialect=dialect)
    asked = Decoding(chat=chat, json_schema=json.dumps(SCHEMA))
    if isinstance(sent, str):
        with pytest.raises(InputError, match=sent):
            endpoint.write("hi", asked, 1)
    else:
        endpoint.write("hi", asked, 1)
        assert {name: bodies[0][name] for name in ("response_format", "json_schema") if name in bodies[0]} == sent


ANSWER = {"choices": [{"text": "one\ntwo", "message": {"content": "one"}}]}


def test_refusals_and_bad_descriptions_are_named(url, checkpoint, monkeypatch, tmp_path):
    generator = openai_compatible(checkpoint(url), CPU, decoding=Decoding(prompts=("a b " * 60,), max_tokens=4))
    for key, said in (("secret", "over the context of 64"), ("wrong", "no key")):
        monkeypatch.setenv("OPENAI_API_KEY", key)
        with pytest.raises(ModelError) as caught:
            generator.sample(SampleRequest.of(1, 0, 1))
        assert str(caught.value) == "the server of model 'tiny' refused the request"
        assert said in detail_of(caught.value)
    for content, reason in (
        ('{"url": "ftp://x", "model": "m"}', "url: String should match pattern"),
        ('{"url": "http://x"}', "model: Field required"),
        ("nothing", "the file: Invalid JSON"),
        ('{"url": "http://x", "model": "m", "api_key": "s"}', "api_key: Extra inputs"),
        ('{"url": "http://user:key@x", "model": "m"}', "url: .*not a plain web address"),
    ):
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(InputError, match=f"invalid endpoint file .*bad.json: {reason}"):
            module.Endpoint.read(tmp_path / "bad.json")
