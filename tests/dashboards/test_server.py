"""What the server of the pages lets through, whatever a browser, a page of others or a settings file says."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import streamlit as st
from starlette.responses import HTMLResponse
from starlette.testclient import TestClient
from streamlit import config
from streamlit.web import bootstrap

from evalsvc.api.server import token_store
from evalsvc.api.server.bind_address import LOCAL
from evalsvc.dashboards import access, middleware, server, visits
from evalsvc.dashboards.middleware import Guard
from evalsvc.dashboards.visits import COOKIE, VALID_SECONDS, Visits
from evalsvc.store.tables import Scope

SITE = "http://127.0.0.1:8501"
NAMES = (*LOCAL, "evals.example.com")


def client(seen: Visits | None = None) -> TestClient:
    return TestClient(Guard(HTMLResponse("page"), hosts=NAMES, visits=seen), SITE, follow_redirects=False)


def accepted(*headers: tuple[str, str]) -> bool:
    """Whether a socket with these headers comes through."""
    came, sent = [], []

    async def app(scope, receive, send):
        came.append(scope)

    async def send(message):
        sent.append(message)

    raw = [(name.encode(), value.encode()) for name, value in headers]
    asyncio.run(Guard(app, hosts=NAMES)({"type": "websocket", "headers": raw, "path": "/_stcore/stream"}, None, send))
    assert bool(came) is not bool(sent)
    return bool(came)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (SITE, "127.0.0.1:8501"),
        ("http://localhost:8501", "localhost:8501"),
        ("http://LOCALHOST:8501", "localhost:8501"),
        ("http://[::1]:8501", "[::1]:8501"),
        ("https://evals.example.com", "evals.example.com"),
        ("https://evals.example.com", "evals.example.com:443"),
        ("https://evals.example.com:8443", "evals.example.com:8443"),
    ],
)
def test_a_page_of_the_server_opens_a_socket(origin, host):
    assert accepted(("host", host), ("origin", origin))


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.test",
        "http://evil.test:8501",
        "http://localhost:8501",  # another origin than 127.0.0.1
        "http://localhost:9999",
        "http://127.0.0.1:9999",
        "http://127.0.0.1",
        "http://0.0.0.0:8501",
        "http://127.0.0.1.evil.test:8501",
        "http://127.0.0.1:8501@evil.test",
        "http://evil@127.0.0.1:8501",
        "http://127.0.0.1:8501/path",
        "http://127.0.0.1:x",
        "http://[::1",
        "ftp://127.0.0.1:8501",
        "file://",
        "null",
        "",
    ],
)
def test_a_page_of_others_opens_none(origin):
    assert not accepted(("host", "127.0.0.1:8501"), ("origin", origin))


def test_no_socket_opens_without_an_origin_with_two_or_under_a_name_that_is_not_ours():
    own = ("host", "127.0.0.1:8501")
    assert not accepted(own)
    assert not accepted(own, ("origin", SITE), ("origin", "http://evil.test"))
    assert not accepted(("origin", SITE))
    for host in ("evil.test:8501", "127.0.0.1.evil.test", "evil@127.0.0.1:8501@evil.test", "", "127.0.0.1:99999", "["):
        assert not accepted(("host", host), ("origin", f"http://{host}"))


def test_every_answer_forbids_frames_scripts_of_others_and_guessed_types():
    for path in ("/", "/leaderboard", "/_stcore/agent/mcp", "/media/x", "/nothing"):
        for found in (client().get(path), client(Visits()).get(path), client().post(path)):
            policy = found.headers["content-security-policy"]
            assert "frame-ancestors 'none'" in policy
            assert "default-src 'self'" in policy
            assert "unsafe-eval" not in policy
            assert "http" not in policy
            assert found.headers["x-frame-options"] == "DENY"
            assert found.headers["x-content-type-options"] == "nosniff"
    assert server.inline_scripts()  # of Streamlit's page, by digest


@pytest.mark.parametrize("host", ["evil.test", "127.0.0.1.evil.test", "localhost.evil.test:8501", ""])
def test_a_name_that_was_made_to_point_here_is_refused(host):
    found = client().get("/", headers={"host": host})
    assert found.status_code == 421
    assert "EVALSVC_ALLOWED_HOSTS" in found.text


def test_the_leaderboard_is_found_by_its_name_and_keeps_what_was_chosen():
    for path, expected in (("/leaderboard", "./"), ("/leaderboard/", "../")):
        assert client().get(path).headers["location"] == expected
        assert client().get(f"{path}?metric=recall&lang=zh").headers["location"] == f"{expected}?metric=recall&lang=zh"


@pytest.mark.parametrize("path", middleware.BLOCKED_PATHS)
def test_parts_of_streamlit_that_no_page_needs_are_not_there(path):
    for there in (path, f"{path}/", f"{path}/interact", f"{path}/openapi.json"):
        assert client().get(there).status_code == 404
    assert client().post(f"{path}/interact").status_code == 405
    assert client().put("/_stcore/upload_file/a/b").status_code == 405


def test_files_are_for_browsers_whose_page_was_let_in_a_moment_ago(monkeypatch):
    seen = Visits()
    browser, stranger = client(seen), client(seen)
    cookie = browser.get("/").cookies[COOKIE]
    assert len(cookie) > 40
    assert browser.get("/").headers.get("set-cookie") is None  # a browser keeps its own
    assert browser.get("/media/x.png").status_code == 403
    seen.admit(cookie)
    assert browser.get("/media/x.png").status_code == 200
    stranger.get("/")
    assert stranger.get("/media/x.png").status_code == 403
    later = visits.monotonic() + VALID_SECONDS
    monkeypatch.setattr(visits, "monotonic", lambda: later)
    assert browser.get("/media/x.png").status_code == 403
    seen.admit(cookie)
    seen.end(cookie)
    assert browser.get("/media/x.png").status_code == 403
    assert client().get("/media/x.png").status_code == 200  # where everybody at this machine may do everything


def test_a_page_lets_its_browser_fetch_files_until_it_signs_out(use_home, tmp_path, page, monkeypatch):
    monkeypatch.setattr(access, "needs_token", lambda: True)
    monkeypatch.setattr(type(st.context), "cookies", {COOKIE: "this browser"})
    database = use_home(tmp_path)
    _, secret = token_store.create(database, "ann", [Scope.READ])
    at = page("operations")
    assert not access.VISITS.is_admitted("this browser")
    at.text_input[0].set_value(secret)
    at = at.button[0].click().run()
    assert access.VISITS.is_admitted("this browser")
    next(button for button in at.button if button.label == "Sign out").click().run()
    assert not access.VISITS.is_admitted("this browser")


HOSTILE_SETTINGS = """
[global]
developmentMode = true
[client]
showErrorDetails = "full"
toolbarMode = "developer"
allowedOrigins = ["https://evil.test"]
[server]
enableCORS = false
enableXsrfProtection = false
enableAgentApi = true
enableStaticServing = true
allowedHosts = ["*"]
corsAllowedOrigins = ["http://evil.test"]
address = "0.0.0.0"
baseUrlPath = "elsewhere"
[server.trustedUserHeaders]
X-Forged = "is_logged_in"
[browser]
gatherUsageStats = true
[theme]
font = "x:https://evil.test/font.css"
[runner]
magicEnabled = true
"""


def hostile_place(folder: Path) -> dict[str, str]:
    """A working directory and a home with settings that would open everything, and variables that would, too."""
    for place in (folder, folder / "home"):
        (place / ".streamlit").mkdir(parents=True)
        (place / ".streamlit" / "config.toml").write_text(HOSTILE_SETTINGS)
    names = ("SERVER_ENABLE_CORS", "SERVER_ENABLE_XSRF_PROTECTION", "CLIENT_SHOW_SIDEBAR_NAVIGATION")
    opened = {f"STREAMLIT_{name}": "false" for name in names}
    opened |= {"STREAMLIT_SERVER_ENABLE_AGENT_API": "true", "STREAMLIT_BROWSER_GATHER_USAGE_STATS": "true"}
    return {"HOME": str(folder / "home")} | opened


def test_no_settings_file_and_no_variable_changes_a_setting(tmp_path, monkeypatch):
    for name, value in hostile_place(tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    for mine in ("_config_options", "get_config_files"):  # of this process, as they were
        monkeypatch.setattr(config, mine, getattr(config, mine))
    bootstrap.load_config_options({})
    assert config.get_option("theme.font") == "x:https://evil.test/font.css"  # the file is found, and works
    server.ignore_files()
    ours = server.settings("127.0.0.1", 8501, LOCAL)
    bootstrap.load_config_options(ours)
    assert not config.get_config_files("config.toml")
    for name, option in config._config_options_template.items():
        if not option.sensitive and name != "secrets.files" and not name.startswith("theme."):
            assert config.get_option(name) == ours.get(name, option.value), name
    assert config.get_option("theme.font") is None
    assert not config.get_option("browser.gatherUsageStats")


def test_a_refusal_is_logged_once_and_strangers_fill_no_log(caplog):
    guard = Guard(HTMLResponse("page"), hosts=NAMES)

    async def send(message):
        pass

    for number in [*range(200), 0]:
        headers = [(b"host", b"127.0.0.1:8501"), (b"origin", f"http://evil{number}.test\x1b[31m".encode())]
        asyncio.run(guard({"type": "websocket", "headers": headers, "path": "/_stcore/stream"}, None, send))
    assert len(caplog.messages) == middleware.MAX_LOGGED_REFUSALS
    assert "http://evil0.test\\x1b[31m" in caplog.messages[0]
    assert "forward the Host header" in caplog.messages[0]
