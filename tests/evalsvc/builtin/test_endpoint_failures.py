"""Refusals, costs and interruptions of an endpoint: a server in this process that does as its prompts say."""

import json
import threading
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from evalsvc.builtin.generators.openai_compatible import Served, ServedWithLikelihood
from evalsvc.core.errors import InputError, ModelError, detail_of
from evalsvc.inputs import endpoints
from evalsvc.inputs.decoding_options import Decoding
from evalsvc.inputs.endpoints import Endpoint
from evalsvc.plugins.items import Message
from evalsvc.plugins.samples import SampleRequest, Texts

CPU = torch.device("cpu")
SAID = "blocked by our filter at http://upstream.internal"


class Server:
    """Counts the answers that it was paid for; ``down`` is the status and header of every other."""

    def __init__(self):
        self.paid, self.bodies, self.down = [], [], None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                outer.bodies.append(body)
                status, answer, headers = outer.answer(body)
                content = json.dumps(answer).encode()
                self.send_response(status)
                for name, value in (headers | {"content-length": str(len(content))}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, body):
        prompt = body.get("prompt") or body["messages"][-1]["content"]
        if self.down and "late" in prompt:
            status, headers = self.down
            return status, {"error": SAID}, headers
        if "refuse" in prompt:
            return 400, {"error": SAID}, {}
        self.paid.append(prompt)
        usage = {"prompt_tokens": 1000, "completion_tokens": -3 if "odd" in prompt else 500}
        text = None if "mute" in prompt else f"answer {len(self.paid)}"
        return 200, {"choices": [{"text": text, "message": {"content": text}}], "usage": usage}, {}


@pytest.fixture(scope="module")
def running():
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture
def server(running, home):
    running.paid, running.bodies, running.down = [], [], None
    return running


@pytest.fixture
def generator(server):
    price = {"prompt": 1.0, "completion": 4.0}
    url = f"http://127.0.0.1:{server.http.server_port}/v1"
    endpoint = Endpoint.model_validate({"url": url, "model": "paid", "parallel": 1, "price": price})
    return lambda kind=Served, **options: kind(endpoint, Decoding(max_tokens=4, **options))


def ask(*prompts):
    seeds = SampleRequest.of(1, 0, len(prompts))
    return SampleRequest(seeds.seeds, seeds.indices, CPU, prompts)


def test_a_refused_prompt_is_a_failure_of_its_sample_alone_and_says_nothing_of_the_server(generator, server, caplog):
    drawn = generator().sample(ask("one", "refuse this", "mute", "two"))
    assert drawn.samples.items == ("answer 1", "", "", "answer 3")
    assert drawn.failures == {
        1: "the server of model 'paid' refused the prompt (4xx)",
        2: "the server of model 'paid' returned no text",
    }
    assert SAID in caplog.text


def test_where_all_are_refused_and_none_was_answered_it_is_an_error(generator, server):
    opened = generator()
    with pytest.raises(ModelError, match="the server of model 'paid' refused the request") as caught:
        opened.sample(ask("refuse", "refuse"))
    assert SAID in detail_of(caught.value)
    opened.sample(ask("one"))
    assert len(opened.sample(ask("refuse")).failures) == 1


def test_each_sample_has_its_tokens_price_and_seconds(generator, server):
    usage = generator().sample(ask("one", "odd", "refuse")).usage
    assert usage.tokens.isnan().tolist() == [False, True, True]
    assert usage.tokens[0] == 500
    assert usage.price[0].item() == pytest.approx((1000 * 1.0 + 500 * 4.0) / 1e6)
    assert usage.price.isnan().tolist() == [False, True, True]
    assert usage.seconds[0] > 0
    assert usage.seconds.isnan().tolist() == [False, False, True]


@pytest.mark.parametrize("status", [503, 401])
def test_an_interruption_ends_the_work_and_what_was_paid_is_not_paid_again(generator, server, monkeypatch, status):
    monkeypatch.setattr(endpoints.time, "sleep", lambda _: None)
    server.down = (status, {})
    prompts = ("one", "two", "refuse", "late")
    with pytest.raises(ModelError):
        generator().sample(ask(*prompts))
    assert server.paid == ["one", "two"]
    server.down = None
    opened = generator()
    drawn = opened.sample(ask(*prompts))
    assert server.paid == ["one", "two", "late"]
    assert drawn.samples.items == ("answer 1", "answer 2", "", "answer 3")
    assert list(drawn.failures) == [2]
    opened.receipt()()  # stored: another run is a new one
    opened.sample(ask(*prompts))
    assert len(server.paid) == 6


def test_answers_are_kept_for_a_day(generator, server, home):
    import os

    generator().sample(ask("one"))
    (kept,) = home.rglob("*.json")
    os.utime(kept, (0, 0))
    generator().sample(ask("one"))
    assert server.paid == ["one", "one"]


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        ("20", 20, 20),
        (formatdate(4102444800, usegmt=True), None, None),
        ("soon", 0.5, 4),
        ("nan", 0.5, 4),
        ("-5", 0.5, 4),
    ],
)
def test_a_busy_server_says_how_long_to_wait(generator, server, monkeypatch, header, least, most):
    waited = []
    monkeypatch.setattr(endpoints.time, "sleep", waited.append)
    server.down = (429, {"Retry-After": header})
    with pytest.raises(ModelError) as caught:
        generator().sample(ask("late"))
    if least is None:  # in the year 2100
        assert waited == []
        assert "is busy for more than 120 s" in str(caught.value)
    else:
        assert len(waited) == 4
        assert all(least <= seconds <= most for seconds in waited)
        assert "did not respond in 5 attempts" in str(caught.value)


def test_a_chat_is_sent_as_its_messages(generator, server):
    chat = (Message("system", "brief"), Message("user", "one"))
    generator().sample(ask(chat, "two"))
    assert [message["role"] for message in server.bodies[0]["messages"]] == ["system", "user"]
    assert server.bodies[1]["prompt"] == "two"
    with pytest.raises(InputError, match="no likelihoods after chats"):
        generator(ServedWithLikelihood).nll(Texts(("x",)), ask(chat))
