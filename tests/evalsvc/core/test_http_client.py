"""Requests to addresses that data names. None leaves this machine."""

import contextlib
import ipaddress
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsvc.core import http_client
from evalsvc.core.errors import InputError
from evalsvc.core.http_client import OutboundError, Target, addresses_of, is_public, post, post_anywhere, run
from tests.evalsvc.dripping_server import dripping_server

LOCAL = ("127.0.0.1",)

INSIDE = (
    *("https://127.0.0.1/x", "https://2130706433/", "https://0x7f.1/", "https://0177.0.0.1/", "https://127.1/"),
    *("https://0/", "https://localhost/", "https://localhost./", "https://10.1.2.3/", "https://192.168.0.9/"),
    *("https://172.16.0.1/", "https://100.64.0.1/", "https://169.254.169.254/", "https://192.88.99.1/"),
    *("https://224.0.0.1/", "https://255.255.255.255/", "https://168.63.129.16/", "https://100.100.100.200/"),
    *("https://[::1]/", "https://[::]/", "https://[::ffff:127.0.0.1]/", "https://[::ffff:a00:1]/"),
    *("https://[64:ff9b::7f00:1]/", "https://[64:ff9b::10.0.0.1]/", "https://[64:ff9b:1::7f00:1]/"),
    *("https://[64:ff9b:1::808:808]/", "https://[::127.0.0.1]/", "https://[::8.8.8.8]/", "https://[fec0::1]/"),
    *("https://[2002:7f00:1::]/", "https://[2002:808:808::1]/", "https://[2001:0:7f00:1::1]/", "https://[fd00::1]/"),
    *("https://[fd00:ec2::254]/", "https://[fe80::1%25lo]/", "https://[ff02::1]/", "https://[100::1]/"),
    *("https://[2001:db8::1]/", "https://[5f00::1]/", "https://[3fff::1]/"),
)
MALFORMED = (
    *(
        "https://user:pw@8.8.8.8/",
        "https://user@8.8.8.8/",
        "https://@8.8.8.8/",
        "https://8.8.8.8#x",
        "https://8.8.8.8/#",
    ),
    *(
        "https://8.8.8.8/\r\nX: y",
        "https://8.8.8.8/ x",
        "https://\u24dbocalhost/",
        "https://[fe80::1%lo]/",
        "ftp://8.8.8.8/",
    ),
    *(
        "https://8.8.8.8\\@127.0.0.1/",
        "https://",
        "https:///x",
        "//8.8.8.8/",
        "file:///etc/passwd",
        "gopher://8.8.8.8/",
    ),
    *("https://8.8.8.8:99999/", "https://[::1", "x", ""),
)


@pytest.mark.parametrize("url", INSIDE + MALFORMED)
def test_no_way_of_writing_an_inside_address_leads_there(url):
    with pytest.raises((InputError, OutboundError)):
        addresses_of(Target.parse(url))


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_public_addresses_are_called(address):
    assert is_public(address)


@given(st.ip_addresses())
def test_nothing_that_python_knows_as_not_global_is_public(address):
    if is_public(str(address)) and address not in ipaddress.ip_network("64:ff9b::/96"):
        assert getattr(address, "ipv4_mapped", None) or address.is_global
        assert not address.is_multicast


def test_one_inside_address_among_public_ones_is_enough_to_refuse(monkeypatch):
    monkeypatch.setattr(http_client, "resolve", lambda *_: ["93.184.216.34", "10.0.0.1"])
    with pytest.raises(InputError, match="is not public .its address is 10.0.0.1"):
        addresses_of(Target.parse("https://hooks.example.com/x"))
    assert addresses_of(Target.parse("https://hooks.example.com/x"), ["Hooks.Example.com"])


@pytest.fixture
def server():
    """Answers as its path says, and keeps what it was asked."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(302 if self.path == "/moved" else 200)
            self.send_header("location", "/elsewhere")
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(b"x" * (10_000_000 if self.path == "/long" else 10))

        def log_message(self, *_):
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
    running.seen, running.url = seen, f"http://127.0.0.1:{running.server_port}"
    yield running
    running.shutdown()
    running.server_close()


def ask(url, **options):
    return run(post(url, b"body", {}, **{"private_hosts": LOCAL, "seconds": 20, "most": 1000} | options))


def test_what_the_operator_lists_is_called_and_its_answer_read(server):
    answer = ask(f"{server.url}/x")
    assert (answer.status, answer.body, answer.is_success) == (200, b"x" * 10, True)
    assert server.seen[0][1]["host"] == server.url.removeprefix("http://")


def test_a_name_is_called_at_the_address_that_was_checked(server, monkeypatch):
    monkeypatch.setattr(http_client, "resolve", lambda *_: ["127.0.0.9", "127.0.0.1"])
    port = server.server_port
    assert ask(f"http://llm.internal:{port}/x", private_hosts=["llm.internal"]).status == 200
    assert server.seen[0][1]["host"] == f"llm.internal:{port}"
    with pytest.raises(InputError, match="is not public"):
        ask(f"http://other.internal:{port}/x")
    assert len(server.seen) == 1


def test_redirects_are_answers_and_proxies_of_the_environment_are_not_asked(server, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert ask(f"{server.url}/moved").status == 302
    assert [path for path, _, _ in server.seen] == ["/moved"]
    with pytest.raises(OutboundError, match="the connection failed"):
        run(post_anywhere(f"{server.url}/x", b"", {}, seconds=20))


def test_an_answer_ends_at_its_limit_of_bytes(server):
    for send in (post, post_anywhere):
        with pytest.raises(OutboundError, match="longer than 1000 bytes"):
            run(send(f"{server.url}/long", b"", {}, seconds=20, most=1000, **where(send)))


def where(send):
    return {"private_hosts": LOCAL} if send is post else {}


@pytest.mark.parametrize("send", [post, post_anywhere])
def test_an_answer_that_comes_byte_by_byte_ends_at_its_limit_of_seconds(send):
    with dripping_server() as url, pytest.raises(OutboundError, match="timed out after 0.3 s"):
        run(send(url, b"", {}, seconds=0.3, most=9, **where(send)))


def test_what_a_server_says_in_place_of_http_is_detail_and_not_message():
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def banner():
            with listening.accept()[0] as connection:
                while b"body" not in connection.recv(1000):
                    pass
                connection.sendall(b"SSH-2.0-secret-banner\r\n\r\n")

        Thread(target=banner, daemon=True).start()
        with pytest.raises(OutboundError) as caught:
            ask(f"http://127.0.0.1:{listening.getsockname()[1]}/")
    assert str(caught.value) == "the response is not valid HTTP"
    assert "secret-banner" in caught.value.detail
