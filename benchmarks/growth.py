"""What reading costs as a store grows: ``python -m benchmarks.growth``.

A store of C checkpoints with 20 scores each and Q queued evaluations, filled without computing anything. Each request
goes through the whole API in this process, after a new score has come, so that no answer is a kept one. The numbers are
milliseconds of processor time, the least of five.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta

from fastapi.testclient import TestClient
from sqlalchemy import insert, select, update

from evalsvc.api.server import token_store
from evalsvc.api.server.app import create_app
from evalsvc.api.server.request_coalescing import Shared
from evalsvc.api.server.state import Server, ServerSettings
from evalsvc.core.digests import digest_configuration, digest_json
from evalsvc.core.settings import Settings
from evalsvc.inputs.suites import load_suite
from evalsvc.queue.pending import overdue, pending
from evalsvc.store import dashboard_queries
from evalsvc.store.dashboard_queries import Filter
from evalsvc.store.session import Database, get_or_insert
from evalsvc.store.tables import Checkpoint, Evaluation, Model, Protocol, Scope, Score, Status, Suite, now

MODELS, SCORES, REPEATS = 50, 20, 5
FIRST = 1_000_000
"""The first id of each table, above those of whatever is in the store already."""
SUITE = load_suite("digits@1")
REQUESTS = {
    "leaderboard": "/leaderboard",
    "leaderboard, all": "/leaderboard?which=all",
    "scores, a page": "/scores?limit=50",
    "scores of one label and model": "/scores?limit=50&model=model-07&label=recall",
    "scores of an unknown model": "/scores?limit=50&model=nobody",
    "unknown name": "/checkpoints?name=nosuchmodel_with_a_longer_name@77",
    "comparison": "/comparison?a=model-03@10&b=model-04@11",
    "models, a page": "/models?limit=50",
    "checkpoints, a page": "/checkpoints?limit=50",
    "evaluations, a page": "/evaluations?limit=50",
    "evaluations, those queued": "/evaluations?limit=50&status=queued",
    "evaluations, those failed": "/evaluations?limit=50&status=failed",
    "suites": "/suites",
    "/metrics": "/metrics",
}


def fill(database: Database, checkpoints: int, queued: int = 0) -> None:
    """Add checkpoints of 50 models with 20 scores each, then queued evaluations, with documents as long as real."""
    body, options = SUITE.model_dump(mode="json"), {"noise": 200}
    spec = {"seed": 1, "suite": body, "reference": {"train": "a" * 64, "heldout": "b" * 64}, "path": "/x" * 40}
    provenance = {"packages": {f"package-{place}": "1.2.3" for place in range(20)}, "samples_per_second": 100.0}
    labels = [*SUITE.labels, *(f"extra_{place}" for place in range(SCORES))][:SCORES]
    with database.write() as session:
        suite = get_or_insert(
            session,
            select(Suite).where(Suite.name == SUITE.name, Suite.version == SUITE.version),
            Suite(name=SUITE.name, version=SUITE.version, digest=SUITE.digest, body=body),
        )
        session.add_all(
            Protocol(id=_protocol(label), facts={"samples": 2000, "label": label, "reference": "a" * 64})
            for label in labels
        )
        session.flush()
        session.execute(insert(Model), [{"id": FIRST + place, "name": f"model-{place:02}"} for place in range(MODELS)])
        rows = [
            {
                "id": FIRST + place,
                "model_id": FIRST + place % MODELS,
                "step": place // MODELS,
                "digest": f"{place:064x}",
                "path": f"/checkpoints/{place}.safetensors",
                "generator": "flow",
                "options": options,
                "configuration": digest_configuration("flow", "", options),
            }
            for place in range(checkpoints + queued)
        ]
        session.execute(insert(Checkpoint), rows)
        runs = [
            {
                "id": FIRST + place,
                "checkpoint_id": FIRST + place,
                "suite_id": suite.id,
                "fingerprint": f"{place:064x}",
                "status": Status.SUCCEEDED if place < checkpoints else Status.QUEUED,
                "spec": spec,
                "provenance": provenance if place < checkpoints else {},
                "on_queue": place >= checkpoints,
                "work": {"samples": 2000, "reference": 2000},
                "finished_at": now() - timedelta(seconds=place) if place < checkpoints else None,
                "device_seconds": 1.0,
            }
            for place in range(checkpoints + queued)
        ]
        session.execute(insert(Evaluation), runs)
        for first in range(0, checkpoints, 500):
            session.execute(
                insert(Score),
                [
                    _score(run, position, label)
                    for run in range(first, min(first + 500, checkpoints))
                    for position, label in enumerate(labels)
                ],
            )


def _protocol(label: str) -> str:
    return digest_json(label)[:16]


def _score(run: int, position: int, label: str) -> dict[str, object]:
    value = (run * 7919 + position * 104729) % 100_003 / 1000
    return {
        "evaluation_id": FIRST + run,
        "position": position,
        "label": label,
        "quantity": label,
        "value": value,
        "stderr": 1.0,
        "ci_low": value - 1.96,
        "ci_high": value + 1.96,
        "n": 2000,
        "direction": "lower",
        "unit": "squared feature units",
        "stderr_method": "influence function, own noise taken off by halves",
        "details": {"mean_part": value, "n_reference": 898.0, "independent": 2000, "independent_unit": "samples"},
        "protocol_id": _protocol(label),
    }


def measured(checkpoints: int, queued: int) -> dict[str, float]:
    """Milliseconds of processor time by what was asked."""
    with tempfile.TemporaryDirectory() as home:
        os.environ["EVALSVC_HOME"] = home
        server = Server.open(Settings(), ServerSettings())
        database = server.database
        fill(database, checkpoints, queued)
        _, secret = token_store.create(database, "growth", [Scope.READ])
        app = create_app(server)
        app.state.answers = Shared(0)
        client = TestClient(app, base_url="http://localhost", headers={"authorization": f"Bearer {secret}"})

        def ask(path: str) -> Callable[[], object]:
            return lambda: client.get(path if path == "/metrics" else f"/api/v1{path}").content

        page = Filter("digits@1")
        calls: dict[str, Callable[[], object]] = {name: ask(path) for name, path in REQUESTS.items()}
        calls |= {
            "a coordinator's second": lambda: (overdue(database), pending(database, {FIRST + checkpoints}, 3)),
            "dashboards: what is measured": lambda: _reading(
                database, lambda s: dashboard_queries.measured(s, "digits@1")
            ),
            "dashboards: one score of all": lambda: _reading(
                database, lambda s: dashboard_queries.points(s, page, "recall", _protocol("recall"))
            ),
            "dashboards: one of each model": lambda: _reading(
                database, lambda s: dashboard_queries.points(s, page, "recall", _protocol("recall"), "latest")
            ),
            "dashboards: has anything changed": lambda: _reading(database, dashboard_queries.revision),
        }
        with client:
            return {name: _least(database, call) for name, call in calls.items()}


def _reading(database: Database, ask: Callable[..., object]) -> object:
    with database.read() as session:
        return ask(session)


def _least(database: Database, call: Callable[[], object]) -> float:
    spent = []
    for _ in range(REPEATS + 1):
        with database.write() as session:
            session.execute(update(Evaluation).where(Evaluation.id == FIRST).values(finished_at=now()))
        begun = time.process_time()
        call()
        spent.append(1000 * (time.process_time() - begun))
    return min(spent[1:])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoints", type=int, nargs="+", default=[1000, 2000, 10_000])
    parser.add_argument("--queued", type=int, default=5000)
    asked = parser.parse_args()
    found = {count: measured(count, asked.queued) for count in asked.checkpoints}
    print(f"| milliseconds of processor time | {' | '.join(f'{count:,} checkpoints' for count in found)} |")
    print(f"|---|{'---|' * len(found)}")
    for name in next(iter(found.values())):
        print(f"| {name} | {' | '.join(f'{times[name]:.1f}' for times in found.values())} |")


if __name__ == "__main__":
    main()
