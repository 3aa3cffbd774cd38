"""Connections that hold a server up: half-sent requests, trickled bodies, responses that nobody reads."""

import resource
import select
import socket
from contextlib import ExitStack

import httpx
import pytest
import uvicorn
from fastapi import Response
from typer.testing import CliRunner

from evalsvc.api.server.client_addresses import TrustedProxies, address_key
from evalsvc.api.server.connections import ConnectionLimits, open_files
from evalsvc.api.server.task_process import TaskProcesses
from evalsvc.cli.main import app as cli
from evalsvc.core.errors import InputError
from evalsvc.store import tables

from .conftest import listening

HALF = b"POST /api/v1/uploads?name=x.pt HTTP/1.1\r\nHost: localhost\r\nX-a: "
QUICK = ConnectionLimits(head=0.3, body=0.3, write=0.3, linger=0.3, sweep=0.05, keep_alive=1)


def connect(url, *sent):
    found = socket.create_connection(("127.0.0.1", httpx.URL(url).port), timeout=20)
    for each in sent:
        found.sendall(each)
    return found


def read(connection):
    """All that the server sends until it closes."""
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionError:
        pass
    return b"".join(parts)


def answers(url):
    return httpx.get(f"{url}/healthz", timeout=20).status_code == 200


def test_half_sent_requests_keep_nobody_out_and_are_closed(app):
    with listening(app, ConnectionLimits(total=20, per_address=10)) as url, ExitStack() as stack:
        held = [stack.enter_context(connect(url, HALF)) for _ in range(60)]
        assert answers(url)
        # Sixty came and twenty are kept, then ten: the oldest go first.
        assert read(held[0]) == b""
        assert read(held[-11]) == b""
        assert answers(url)
        held[-1].setblocking(False)
        with pytest.raises(BlockingIOError):
            held[-1].recv(1)


@pytest.mark.parametrize("sent", [b"", b"GET /healthz", HALF, b"\r\n\r\n"])
def test_a_head_that_does_not_end_is_closed(app, sent):
    with listening(app, QUICK) as url, connect(url, sent) as held:
        assert read(held) == b""
        assert answers(url)


def test_a_head_that_is_trickled_after_a_first_request_is_closed(app):
    with listening(app, QUICK) as url, connect(url, b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n") as held:
        assert held.recv(65536).startswith(b"HTTP/1.1 200")
        held.sendall(b"GET / HT")
        assert read(held) == b""


def test_a_head_without_end_is_refused_by_its_bytes(app):
    with listening(app) as url, connect(url, HALF) as held:
        held.sendall(b"x" * 1_000_000)
        assert read(held).startswith(b"HTTP/1.1 431 ")
        assert answers(url)


@pytest.mark.parametrize("framing", [b"content-length: 1000", b"transfer-encoding: chunked"])
def test_a_body_that_is_trickled_is_closed_and_leaves_nothing(app, server, token, framing):
    head = b"POST /api/v1/uploads?name=x.pt HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer %b\r\n%b\r\n\r\n1"
    with listening(app, QUICK) as url, connect(url, head % (token.encode(), framing)) as held:
        assert read(held).startswith(b"HTTP/1.1 408 ")
        assert answers(url)
    assert not [file for file in server.uploads.rglob("*") if file.is_file()]


def test_the_rest_of_a_body_that_was_refused_is_not_read_for_ever(app):
    head = b"POST /api/v1/uploads?name=x.pt HTTP/1.1\r\nhost: localhost\r\ncontent-length: 999999999\r\n\r\nx"
    with listening(app, QUICK) as url, connect(url, head) as held:
        assert read(held).startswith(b"HTTP/1.1 401 ")


def test_a_response_that_nobody_reads_is_given_up(app):
    app.get("/large")(lambda: Response(b"x" * 50_000_000))
    with listening(app, QUICK) as url, connect(url, b"GET /large HTTP/1.1\r\nhost: localhost\r\n\r\n") as held:
        assert held.recv(12) == b"HTTP/1.1 200"
        poll = select.poll()
        poll.register(held, 0)  # errors alone: nothing is read
        assert poll.poll(20_000)
        assert answers(url)


def test_requests_that_are_sent_without_waiting_for_answers_are_limited(app):
    with listening(app) as url, connect(url) as held:
        one = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"
        held.sendall(one * 9 + one.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
        assert read(held).count(b"HTTP/1.1 200") == 10
        with connect(url, one * 2000) as flood:
            assert read(flood).count(b"HTTP/1.1 200") < 20
        assert answers(url)


def test_where_all_connections_are_at_work_the_next_is_refused_by_name(app, filled, server, token):
    with server.database.write() as session:
        session.get_one(tables.Evaluation, filled.evaluation).status = "running"
    stream = b"GET /api/v1/evaluations/%d/events HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer %b\r\n\r\n"
    asked = stream % (filled.evaluation, token.encode())
    with listening(app, ConnectionLimits(per_address=3)) as url, ExitStack() as stack:
        for _ in range(3):
            assert stack.enter_context(connect(url, asked)).recv(20).startswith(b"HTTP/1.1 200")
        with connect(url) as refused:
            assert b"503 Service Unavailable" in read(refused)


def test_a_trusted_proxy_is_no_client_and_its_word_is_taken(app, monkeypatch):
    from evalsvc.api.server import middleware

    seen = []
    monkeypatch.setattr(middleware, "address_key", lambda host: seen.append(host) or host)
    with listening(app) as url:
        httpx.get(f"{url}/healthz", headers={"x-forwarded-for": "8.8.8.8"})
    with listening(app, ConnectionLimits(per_address=1), ["127.0.0.1"]) as url, connect(url), connect(url):
        httpx.get(f"{url}/healthz", headers={"x-forwarded-for": "6.6.6.6, 8.8.4.4"})
    assert seen == ["127.0.0.1", "8.8.4.4"]


def test_of_one_address_only_so_many_requests_are_open(app, client):
    app.user_middleware[0].kwargs["per_address"] = 0
    refused = client().get("/healthz")
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
    assert "your address has 0 open requests" in refused.json()["detail"]


def test_an_ipv6_client_is_its_network():
    assert address_key("2001:db8::1") == address_key("2001:db8::ffff:1") != address_key("2001:db8:0:1::1")
    assert address_key("::ffff:10.0.0.5") == address_key("10.0.0.5") == "10.0.0.5"
    assert address_key("unix") == "unix"


def test_a_proxy_is_listed_by_its_address():
    trusted = TrustedProxies(["10.0.0.5", "172.16.0.0/12", "fd00::/8"])
    assert "10.0.0.5" in trusted
    assert "::ffff:172.20.1.1" in trusted
    assert "fd00::1%eth0" in trusted
    assert "10.0.0.6" not in trusted
    assert "" not in trusted
    for wrong in ("*", "proxy.local", "0.0.0.0/0", "::/0"):
        with pytest.raises(InputError, match="EVALSVC_TRUSTED_PROXIES"):
            TrustedProxies([wrong])


def test_connections_end_before_open_files_do():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (300, before[1]))
        assert open_files(200) == 200
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= 456
        assert open_files(10**9) <= before[1] - 256
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_serve_applies_what_the_operator_decided(home, monkeypatch):
    monkeypatch.setenv("EVALSVC_CONNECTIONS", "300")
    monkeypatch.setenv("EVALSVC_CONNECTIONS_PER_ADDRESS", "20")
    monkeypatch.setenv("EVALSVC_TRUSTED_PROXIES", "10.0.0.5, fd00::/8")
    monkeypatch.setattr(TaskProcesses, "warm", lambda _: None)
    started = []
    monkeypatch.setattr(uvicorn.Server, "run", lambda self: started.append(self.config))
    result = CliRunner().invoke(cli, ["serve", "--port", "0"])
    assert result.exit_code == 0, result.output
    (config,) = started
    register = config.http.made_for
    assert (register.limits.total, register.limits.per_address) == (300, 20)
    assert (config.proxy_headers, config.forwarded_allow_ips) == (True, ["10.0.0.5", "fd00::/8"])
    assert register.limits == ConnectionLimits(300, 20)
    monkeypatch.setenv("EVALSVC_TRUSTED_PROXIES", "*")
    refused = CliRunner().invoke(cli, ["serve", "--port", "0"])
    assert isinstance(refused.exception, InputError)
