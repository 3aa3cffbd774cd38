from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import pytest
import uvicorn
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy.orm import Session

from evalsvc.api.server import token_store
from evalsvc.api.server.app import create_app
from evalsvc.api.server.connections import ConnectionLimits, configured
from evalsvc.api.server.request_coalescing import Coalesced
from evalsvc.api.server.state import Server, ServerSettings
from evalsvc.core.settings import Settings
from evalsvc.store import tables
from evalsvc.store.tables import Scope
from tests.evalsvc.gates.store import add_checkpoint, add_scores, point

Client = Callable[..., TestClient]


@pytest.fixture
def roots(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    return folder


@pytest.fixture
def server(home: Path, roots: Path) -> Iterator[Server]:
    opened = Server.open(Settings(secret_key=SecretStr("k" * 32)), ServerSettings(checkpoint_roots=(roots,)))
    yield opened
    opened.task_processes.close()
    opened.database.engine.dispose()


@pytest.fixture
def app(server: Server):
    """An app whose answers are never old, because tests write behind its back."""
    made = create_app(server)
    made.state.answers, made.state.bearers = Coalesced(0), Coalesced(0)
    return made


@pytest.fixture
def client(app) -> Client:
    """A client whose token has these scopes; without any it has no token."""

    def make(*scopes: Scope | str, **options) -> TestClient:
        headers = {}
        if scopes:
            _, secret = token_store.create(app.state.server.database, "test", [Scope(scope) for scope in scopes])
            headers["authorization"] = f"Bearer {secret}"
        return TestClient(app, base_url="http://localhost", headers=headers, **options)

    return make


@dataclass(frozen=True)
class Filled:
    """Ids of what the store holds."""

    checkpoint: int
    evaluation: int
    artifact: int
    gate: int


@pytest.fixture
def filled(server: Server) -> Filled:
    """Two checkpoints of one model with scores, an artifact, a passed gate of the second, an alias on the first.

    The policy of the gate protects the alias.
    """
    with server.database.write() as session:
        return fill(session, server)


def fill(session: Session, server: Server) -> Filled:
    old, new = (add_checkpoint(session, "flow", step) for step in (1, 9))
    add_scores(session, old, {"frechet_distance": (16.0, 0.2), "recall": (0.7, 0.01)})
    run = add_scores(session, new, {"frechet_distance": (12.0, 0.2), "recall": (0.8, 0.01)})
    run.finished_at = tables.now()
    server.artifacts.write_bytes("galleries/1.safetensors", b"\x01pixels")
    artifact = tables.Artifact(
        evaluation_id=run.id, kind="gallery", path="galleries/1.safetensors", digest="a" * 64, bytes=7
    )
    gate = tables.Gate(
        suite="digits@1",
        model="flow",
        step=9,
        digest=new.digest,
        checkpoint_id=new.id,
        baseline="alias production",
        policy_digest="p" * 64,
        policy={"version": 1},
        status="PASS",
        exit_code=0,
        shadow=False,
        evidence={"samples": 2000, "suite_digest": "s" * 64, "baseline_ids": [old.id]},
        verdict={"status": "PASS", "reason": "all limits hold"},
    )
    pinned = tables.Protection(
        alias="production", suite="digits@1", suite_digest="s" * 64, policy_digest="p" * 64, policy={}, by="admin"
    )
    session.add_all([artifact, gate, pinned])
    point(session, "production", old)
    session.flush()
    return Filled(new.id, run.id, artifact.id, gate.id)


@pytest.fixture
def live(app) -> Iterator[str]:
    """The URL of a server that really listens."""
    with listening(app) as url:
        yield url


@contextmanager
def listening(app, limits: ConnectionLimits = ConnectionLimits(), proxies=()) -> Iterator[str]:  # noqa: B008  (frozen)
    """The URL of a server that really listens."""
    options = {"log_level": "error", "timeout_graceful_shutdown": 1}
    running = uvicorn.Server(configured(app, "127.0.0.1", 0, limits, proxies, **options))
    thread = Thread(target=running.run)
    thread.start()
    try:
        while not running.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}"
    finally:
        running.should_exit = True
        thread.join()


@pytest.fixture
def token(server: Server) -> str:
    """One that may submit."""
    return token_store.create(server.database, "test", [Scope.SUBMIT])[1]
