"""Where a server listens, and by which names it is called."""

import pytest

from evalsvc.api.server.bind_address import hosts_for, is_loopback
from evalsvc.core.errors import InputError


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_on_this_machine_alone_nothing_else_is_asked(address):
    assert is_loopback(address)
    assert set(hosts_for(address, (), 0)) == {"localhost", "127.0.0.1", "::1", address}


@pytest.mark.parametrize(
    "address", ["0.0.0.0", "::", "10.0.0.5", "192.168.1.1", "gpu-7", "example.com", "", "127.0.0.1.nip.io"]
)
def test_beyond_it_names_and_tokens_are(address):
    assert not is_loopback(address)
    with pytest.raises(InputError, match="set EVALSVC_ALLOWED_HOSTS"):
        hosts_for(address, (), 1)
    with pytest.raises(InputError, match="there is no token: create one with 'evalsvc token create NAME'"):
        hosts_for(address, ("evals.example.com",), 0)
    assert "evals.example.com" in hosts_for(address, ("Evals.Example.com",), 1)


@pytest.mark.parametrize("names", [("*",), ("ok", "*.example.com")])
def test_a_wildcard_is_no_name(names):
    with pytest.raises(InputError, match="list the names"):
        hosts_for("127.0.0.1", names, 1)


def test_the_server_answers_to_its_names(client):
    for host in ("localhost", "localhost:8642", "127.0.0.1:1", "[::1]:8642", "LOCALHOST"):
        assert client().get("/healthz", headers={"host": host}).status_code == 200, host


def test_and_to_no_other_so_that_no_page_rebinds_its_own(client):
    admin = client("admin")
    for host in ("evil.example", "localhost.evil.example", "127.0.0.1.evil.example:1", "", "[::2]", "@localhost"):
        answer = admin.get("/api/v1/tokens", headers={"host": host})
        assert answer.status_code == 421, host
        assert answer.headers["content-type"] == "application/problem+json"


def test_no_page_of_another_origin_may_read_or_write(client):
    answer = client("admin").options(
        "/api/v1/tokens", headers={"origin": "https://evil.example", "access-control-request-method": "POST"}
    )
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert client("admin").get("/api/v1/tokens").headers["cache-control"] == "no-store"
