"""Thousands of random faults of a server, without sockets and without waiting; and broken connections with both."""

import json
import random
import socket
from collections import Counter
from contextlib import contextmanager
from threading import Event, Lock, Thread

import pytest
import torch

from evalsvc.builtin.generators.openai_compatible import Served
from evalsvc.core.errors import ModelError, detail_of
from evalsvc.core.http_client import Answer, OutboundError
from evalsvc.inputs import endpoint_requests, endpoints
from evalsvc.inputs.decoding_options import Decoding
from evalsvc.inputs.endpoints import Endpoint
from evalsvc.plugins.samples import SampleRequest

CPU = torch.device("cpu")
PROMPTS = tuple(f"prompt {i}" for i in range(50))
REFUSED = {f"prompt {i}" for i in (7, 23)}


class Faulty:
    """Most requests fail in one of many ways, a few of which end the work; it counts what each prompt was answered."""

    def __init__(self, seed):
        self._random, self._lock = random.Random(seed), Lock()
        self.delivered, self.faults = Counter(), Counter()

    async def send(self, endpoint, url, content, headers):
        prompt = json.loads(content)["prompt"]
        with self._lock:
            kind, fault = self._random.choices(FAULTS, WEIGHTS)[0]
            self.faults[kind] += 1
            if prompt in REFUSED and kind == "answer":
                return Answer(400, b"blocked")
            if kind == "answer":
                self.delivered[prompt] += 1
                return Answer(200, json.dumps({"choices": [{"text": f"text of {prompt}"}]}).encode())
        if isinstance(fault, Exception):
            raise fault
        return fault


FAULTS = [
    ("answer", None),
    *((f"status {status}", Answer(status, b"<html>")) for status in (408, 429, 500, 502, 503, 504, 520)),
    *((f"busy {header}", Answer(429, b"", header)) for header in ("0", "1", "7.5", "soon", "-1", "inf")),
    ("busy until a date", Answer(503, b"", "Sun, 29 Nov 2020 00:00:00 GMT")),
    ("garbage", Answer(200, b"\x00\xff\x00")),
    ("cut", Answer(200, b'{"choices": [{"text": "te')),
    ("deep", Answer(200, b"[" * 100_000)),
    ("time-out", OutboundError("timed out after 120 s")),
    ("no connection", OutboundError("the connection failed", detail="ConnectError")),
    ("key", Answer(401, b"no key")),
    ("address", Answer(404, b"no such model")),
]
WEIGHTS = [8, *[1] * (len(FAULTS) - 3), 0.1, 0.1]


def test_thousands_of_faults_lose_no_paid_answer_and_ask_for_none_twice(home, monkeypatch):
    monkeypatch.setattr(endpoint_requests.Pace, "pause", lambda *_: False)
    seeds, faults, runs = SampleRequest.of(1, 0, len(PROMPTS)), Counter(), 0
    for seed in range(12):
        server = Faulty(seed)
        monkeypatch.setattr(Endpoint, "_send", lambda *given, server=server: server.send(*given))
        endpoint = Endpoint(url=f"http://server{seed}/v1", model="paid", parallel=4)
        while True:  # as people do: the same command again
            runs += 1
            generator = Served(endpoint, Decoding())
            try:
                drawn = generator.sample(SampleRequest(seeds.seeds, seeds.indices, CPU, PROMPTS))
                break
            except ModelError:
                continue
        assert server.delivered == dict.fromkeys(set(PROMPTS) - REFUSED, 1)
        assert drawn.samples.items == tuple("" if p in REFUSED else f"text of {p}" for p in PROMPTS)
        assert set(drawn.failures) == {7, 23}
        faults.update(server.faults)
    assert runs > 12
    assert set(faults) == {kind for kind, _ in FAULTS}
    assert faults.total() > 2000


def test_a_failed_request_stops_those_that_wait_but_keeps_those_that_run(home, monkeypatch):
    asked = []

    async def send(endpoint, url, content, headers):
        asked.append(json.loads(content)["prompt"])
        return Answer(401, b"") if asked[-1] == "prompt 1" else Answer(200, b'{"choices": [{"text": "t"}]}')

    monkeypatch.setattr(Endpoint, "_send", send)
    seeds = SampleRequest.of(1, 0, len(PROMPTS))
    generator = Served(Endpoint(url="http://server/v1", model="paid", parallel=1), Decoding())
    with pytest.raises(ModelError):
        generator.sample(SampleRequest(seeds.seeds, seeds.indices, CPU, PROMPTS))
    assert len(asked) <= 3


def test_an_error_does_not_wait_for_a_server_that_is_busy(home, monkeypatch):
    paused = Event()

    async def send(endpoint, url, content, headers):
        if json.loads(content)["prompt"] == "prompt 0":
            return Answer(429, b"", "500")
        paused.wait()
        return Answer(401, b"")

    def pause(pace, seconds):
        paused.set()
        return pace.ended.wait(min(seconds, 60))

    monkeypatch.setattr(Endpoint, "_send", send)
    monkeypatch.setattr(endpoint_requests.Pace, "pause", pause)
    endpoint, seeds = Endpoint(url="http://server/v1", model="paid", parallel=2), SampleRequest.of(1, 0, 2)
    for _ in range(2):
        paused.clear()
        with pytest.raises(ModelError, match="^the server of model 'paid' refused the request$"):
            Served(endpoint, Decoding()).sample(SampleRequest(seeds.seeds, seeds.indices, CPU, PROMPTS[:2]))


@contextmanager
def raw_server(start, more=b""):
    """Sends ``start`` to every connection, then ``more`` until the client leaves."""
    over = Event()

    def talk(connection):
        with connection:
            try:
                connection.recv(65536)
                connection.sendall(start)
                while more and not over.is_set():
                    connection.sendall(more)
                    over.wait(0.005)
            except OSError:
                pass

    def accept():
        while not over.is_set():
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            Thread(target=talk, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        over.set()


HEADERS = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
CHUNKED = HEADERS + b"transfer-encoding: chunked\r\n\r\n"
BROKEN = {
    "nothing": (b"", b"", "the response is not valid HTTP"),
    "no HTTP": (b"\x00\x01 nonsense\r\n\r\n", b"", "the response is not valid HTTP"),
    "an answer that is cut": (HEADERS + b'content-length: 99\r\n\r\n{"choices": [{"te', b"", "is not valid HTTP"),
    "a header that never ends": (HEADERS, b"x: y\r\n", "timed out after 0.1 s"),
    "an answer byte by byte": (HEADERS + b"content-length: 9999\r\n\r\n", b"[", "timed out after 0.1 s"),
    "a stream that never ends": (CHUNKED, b"4000\r\n" + b"1" * 0x4000 + b"\r\n", "longer than 30000 bytes"),
    "another place": (b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:9/\r\n\r\n", b"", "302"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_connection_is_one_sentence(monkeypatch, kind):
    monkeypatch.setattr(endpoint_requests.Pace, "pause", lambda *_: False)
    monkeypatch.setattr(endpoint_requests, "TRIES", 2)
    monkeypatch.setattr(endpoints, "LARGEST", 30_000)
    start, more, reason = BROKEN[kind]
    with raw_server(start, more) as url, pytest.raises(ModelError) as caught:
        Endpoint(url=url, model="m", timeout=0.1 if "timed" in reason else 30).write("hi", Decoding(), 1)
    assert reason in str(caught.value) + detail_of(caught.value)
    assert "\n" not in str(caught.value)
