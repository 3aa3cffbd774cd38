"""What the operator writes down for clients."""

import json
from pathlib import Path

import pytest

from evalsvc.core.errors import CheckpointError, InputError
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.content_watch import ContentWatch
from evalsvc.inputs.server_file import ServerFile, open_endpoint, server_file
from evalsvc.inputs.token_prices import Price

LLAMA = "endpoints: {llama: {url: 'http://llm.internal/v1', model: llama-3, private: true}}"


@pytest.fixture
def write(tmp_path, monkeypatch):
    path = tmp_path / "server.yaml"
    monkeypatch.setenv("EVALSVC_SERVER_FILE", str(path))

    def to(text):
        path.write_text(text)
        return path

    return to


def opened():
    return Checkpoint.open(Path("endpoint:llama"), "llama", 0)


def test_without_the_variable_nothing_is_listed(monkeypatch):
    monkeypatch.delenv("EVALSVC_SERVER_FILE", raising=False)
    assert server_file() == ServerFile()
    with pytest.raises(InputError, match=r"there is no endpoint 'llama' .available: none.: list it under 'endpoints'"):
        opened()


def test_the_digest_of_an_endpoint_is_what_is_asked_and_where(write):
    write(LLAMA)
    first = opened()
    assert str(first.path) == "endpoint:llama"
    for more in ("key_variable: OTHER_KEY", "timeout: 5", "parallel: 2"):
        write(LLAMA.replace("private: true", more))
        assert opened().digest == first.digest
    for was, now in (("llama-3", "llama-4"), ("llm.internal", "other"), ("private: true", "dialect: openai")):
        write(LLAMA.replace(was, now))
        assert opened().digest != first.digest


def test_a_model_has_the_price_of_the_table_unless_its_endpoint_has_one(write, tmp_path):
    prices = "\nprices: {llama-3: {prompt: 2, cached: 1, completion: 8}, other: {prompt: 9}}"
    write(LLAMA + prices)
    assert open_endpoint("endpoint:llama").price == Price(prompt=2, cached=1, completion=8)
    assert "'llama'" in open_endpoint("endpoint:llama").called
    priced = opened().digest
    write(LLAMA.replace("private: true", "price: {prompt: 3}") + prices)
    assert open_endpoint("endpoint:llama").price == Price(prompt=3)
    assert opened().digest == priced
    for model, price in (("other", Price(prompt=9)), ("free", None)):
        (tmp_path / "own.json").write_text(json.dumps({"url": "http://x/v1", "model": model}))
        assert open_endpoint(tmp_path / "own.json").price == price


def test_a_misspelt_variable_is_an_error(monkeypatch):
    monkeypatch.setenv("EVALSVC_SERVERFILE", "/etc/evalsvc/server.yaml")
    with pytest.raises(InputError, match="did you mean EVALSVC_SERVER_FILE"):
        server_file()


def test_an_endpoint_that_serves_another_model_is_another_checkpoint_at_once(write):
    write(LLAMA)
    watch, checkpoint = ContentWatch(), opened()
    watch.require(checkpoint)
    write(LLAMA.replace("llama-3", "llama-4"))
    with pytest.raises(CheckpointError):
        watch.require(checkpoint)


def test_an_endpoint_is_called_by_its_name(write):
    write(LLAMA)
    assert open_endpoint("endpoint:llama").called == "endpoint 'llama'"
    assert server_file().endpoint("llama").private


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("endpoint: {}", "endpoint: unknown key"),
        ("endpoints: {llama: {url: 'http://x', model: m, key: sk-1}}", "endpoints.llama.key: unknown key"),
        ("endpoints: {llama: {model: m}}", "endpoints.llama.url: Field required"),
        ("endpoints: {llama: {url: 'http://a:b@x', model: m}}", "endpoints.llama.url: .* not a plain web address"),
        ("endpoints: {a/b: {url: 'http://x', model: m}}", "endpoints.a/b"),
        ("endpoints: {a: {url: 'http://x', model: m}, a: {url: 'http://y', model: m}}", "duplicate key 'a'"),
        ("clients: {generators: [gan]}", "clients.generators: Input should be a valid dictionary"),
        ("- a", "the file: Input should be"),
        ("a: [", "is not valid YAML"),
    ],
)
def test_a_mistake_is_named_with_its_key(write, text, complaint):
    path = write(text)
    with pytest.raises(InputError, match=complaint) as caught:
        server_file()
    assert str(path) in str(caught.value)


def test_the_example_of_the_documentation_is_a_server_file(write):
    page = (Path(__file__).parents[3] / "docs" / "guides" / "api.md").read_text()
    write(page.partition("```yaml\nendpoints:")[2].partition("```")[0].join(["endpoints:", ""]))
    assert server_file().endpoint("llama").timeout == 300
    assert server_file().clients.generators == {"gan": None, "samples": None, "my-gan": {"noise"}}


def test_the_file_to_copy_is_a_server_file(write):
    write((Path(__file__).parents[3] / "examples" / "deploy" / "server.yaml").read_text())
    found = server_file()
    assert (found.endpoints, found.clients) == (ServerFile().endpoints, ServerFile().clients)
    assert None not in found.limits.default.model_dump().values()


def test_a_file_that_cannot_be_read_is_named(write, tmp_path):
    with pytest.raises(InputError, match="cannot read EVALSVC_SERVER_FILE="):
        server_file()
    (tmp_path / "server.yaml").mkdir()
    with pytest.raises(InputError, match="cannot read EVALSVC_SERVER_FILE="):
        server_file()
