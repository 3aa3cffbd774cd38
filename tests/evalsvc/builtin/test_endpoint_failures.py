"""Refusals, costs and interruptions of an endpoint: a server in this process that does as its prompts say."""

import json
import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from evalsvc.builtin.generators.openai_compatible import Served, ServedWithLikelihood
from evalsvc.core.errors import InputError, ModelError, detail_of
from evalsvc.inputs.decoding_options import Decoding
from evalsvc.inputs.endpoint_requests import Pace
from evalsvc.inputs.endpoints import Endpoint
from evalsvc.inputs.token_prices import Price
from evalsvc.plugins.items import Message
from evalsvc.plugins.samples import SampleRequest, Texts

CPU = torch.device("cpu")
SAID = "blocked by our filter at http://upstream.internal"


class Server:
    """Counts the answers that it was paid for; ``down`` is the answer to requests for which ``is_down``."""

    def __init__(self):
        self.reset()
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

    def reset(self):
        self.paid, self.bodies, self.down, self.choice = [], [], None, {}
        self.is_down = lambda body: "late" in prompt_of(body)

    def answer(self, body):
        prompt = prompt_of(body)
        if self.down and self.is_down(body):
            status, headers, *said = self.down
            return status, {"error": said or SAID}, headers
        if "refuse" in prompt:
            return 400, {"error": SAID}, {}
        self.paid.append(prompt)
        usage = {"prompt_tokens": 1000, "completion_tokens": -3 if "odd" in prompt else 500}
        text = None if "mute" in prompt else f"answer {len(self.paid)}"
        return 200, {"choices": [{"text": text, "message": {"content": text}} | self.choice], "usage": usage}, {}


def prompt_of(body):
    return body.get("prompt") or body["messages"][-1]["content"]


@pytest.fixture(scope="module")
def running():
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture
def server(running, home):
    running.reset()
    return running


@pytest.fixture
def waited(monkeypatch):
    pauses = []
    monkeypatch.setattr(Pace, "pause", lambda _, seconds: pauses.append(seconds))
    return pauses


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
def test_an_interruption_ends_the_work_and_what_was_paid_is_not_paid_again(generator, server, waited, status):
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
        ("20", 20, 22),
        ("in 100 s", 50, 110),
        ("0.001", 0.5, 60),
        ("soon", 0.5, 60),
        ("nan", 0.5, 60),
        ("-5", 0.5, 60),
    ],
)
def test_a_busy_server_is_given_the_time_that_it_asks_for_but_not_for_ever(
    generator, server, waited, header, least, most
):
    date = formatdate(time.time() + 100, usegmt=True)
    server.down = (429, {"Retry-After": date if header == "in 100 s" else header})
    with pytest.raises(ModelError, match="is busy for more than 600 s: run the same command again later"):
        generator().sample(ask("late"))
    assert all(least <= seconds <= most for seconds in waited)
    assert 600 - most - 61 <= sum(waited) <= 600


@pytest.mark.parametrize("header", [formatdate(4102444800, usegmt=True), "3600"])
def test_a_server_that_asks_for_too_much_time_is_not_waited_for(generator, server, waited, header):
    server.down = (503, {"Retry-After": header})
    with pytest.raises(ModelError, match="is busy for more than 600 s"):
        generator().sample(ask("late"))
    assert waited == []


def test_pauses_after_failures_grow_and_vary(generator, server, waited):
    server.down = (500, {})
    with pytest.raises(ModelError, match=r"in 5 attempts \(status 500\): check that it is running"):
        generator().sample(ask("late"))
    assert [0.5 * 2**i <= seconds <= 2**i for i, seconds in enumerate(waited)] == [True] * 4
    first, waited[:] = list(waited), []
    with pytest.raises(ModelError):
        generator().sample(ask("late"))
    assert waited != first


def test_no_money_is_not_waited_for(generator, server, waited):
    server.down = (429, {}, "insufficient_quota")
    with pytest.raises(ModelError, match="refused the request"):
        generator().sample(ask("late"))
    assert waited == []


def test_a_forbidden_prompt_is_refused_alone_if_the_key_is_good(generator, server):
    server.down = (403, {})
    drawn = generator().sample(ask("one", "late", "two"))
    assert drawn.failures == {1: "the server of model 'paid' refused the prompt (4xx)"}
    assert server.paid == ["one", "two", "Hello"]


def test_a_key_that_becomes_wrong_is_an_error_and_no_failure_of_samples(generator, server):
    server.down, server.is_down = (403, {}), lambda body: prompt_of(body) != "one"
    with pytest.raises(ModelError, match="refused the request"):
        generator().sample(ask("one", "late", "two"))
    assert server.paid == ["one"]


def test_requests_at_a_time_halve_when_there_are_too_many_and_recover_one_by_one():
    pace = Pace(16)
    with pace.turn() as first, pace.turn() as second:
        pace.cut(first)
        pace.cut(second)  # of the same crowd
    assert pace.limit == 8
    for _ in range(5):
        with pace.turn() as now:
            pace.cut(now)
    assert pace.limit == 1
    for _ in range(sum(range(1, 16))):
        pace.answered()
    assert pace.limit == 16
    pace.answered()
    assert pace.limit == 16


def test_no_more_requests_run_than_the_pace_allows():
    pace, running, most = Pace(3), [0], []

    def work(_):
        with pace.turn():
            running[0] += 1
            most.append(running[0])
            time.sleep(0.001)
            running[0] -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(40)))
    assert max(most) == 3


def test_a_model_that_wants_max_completion_tokens_gets_it(generator, server):
    server.down = (400, {}, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
    server.is_down = lambda body: "max_tokens" in body
    assert generator().sample(ask("one", "two")).samples.items == ("answer 1", "answer 2")
    assert [("max_tokens" in body, body.get("max_completion_tokens")) for body in server.bodies] == [
        (True, None),
        (False, 4),
        (False, 4),
    ]


REASONED = [
    ({"message": {"content": "so\nit is</think> 4\nfour"}}, "4", None),
    ({"message": {"content": " 4\nfour", "reasoning_content": "so\nit is"}}, "4", None),
    (
        {"message": {"content": "so\nit"}},
        "",
        "no answer after the reasoning: '</think>' does not occur within 4 tokens",
    ),
    ({"message": {"content": None, "reasoning": "so"}}, "", "no answer after the reasoning, within 4 tokens"),
    ({"finish_reason": "content_filter"}, "", "the server of model 'paid' withheld the text by its content filter"),
]


@pytest.mark.parametrize(("choice", "text", "failure"), REASONED)
def test_reasoning_is_not_in_the_text_and_stops_nothing(generator, server, choice, text, failure):
    server.choice = choice
    drawn = generator(chat=True, reasoning_end="</think>", stop=("\n",)).sample(ask("one"))
    assert (drawn.samples.items, drawn.failures.get(0)) == ((text,), failure)
    assert "stop" not in server.bodies[0]


def test_cached_prompt_tokens_have_their_own_price():
    usage = {"prompt_tokens": 1000, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 600}}
    assert Price(prompt=2, completion=8).of(usage) == pytest.approx((1000 * 2 + 10 * 8) / 1e6)
    assert Price(prompt=2, completion=8, cached=0.5).of(usage) == pytest.approx((400 * 2 + 600 * 0.5 + 10 * 8) / 1e6)
    assert math.isnan(Price(prompt=2).of({"prompt_tokens": 3}))
    assert Price(prompt=2, cached=1).of({"prompt_tokens": 3, "completion_tokens": 0}) == pytest.approx(6e-6)


def test_a_chat_is_sent_as_its_messages(generator, server):
    chat = (Message("system", "brief"), Message("user", "one"))
    generator().sample(ask(chat, "two"))
    assert [message["role"] for message in server.bodies[0]["messages"]] == ["system", "user"]
    assert server.bodies[1]["prompt"] == "two"
    with pytest.raises(InputError, match="no likelihoods after chats"):
        generator(ServedWithLikelihood).nll(Texts(("x",)), ask(chat))
