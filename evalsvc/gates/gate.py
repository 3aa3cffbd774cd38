"""One gate from policy to stored decision: what the command line, the pytest plug-in and promotion share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from evalsvc import outbox
from evalsvc.artifacts import open_artifacts
from evalsvc.checkpoint_names import Naming
from evalsvc.deadline import Deadline, deadline
from evalsvc.errors import InputError
from evalsvc.gates.decide import Decision, decide, undecided
from evalsvc.gates.documents import document
from evalsvc.gates.evidence import Absent, Observation
from evalsvc.gates.policy import Policy
from evalsvc.gates.sources import Computed, Source, Stored
from evalsvc.gates.subjects import find_sides, labels_of
from evalsvc.plugins import Plugins
from evalsvc.settings import Settings
from evalsvc.store import queries, tables
from evalsvc.store.session import Database
from evalsvc.store.tables import now
from evalsvc.suites import Suite, load_suite
from evalsvc.workbench import Workbench


@dataclass(frozen=True)
class Recorded:
    """A decision, its row and its exit code."""

    id: int
    decision: Decision
    document: Mapping[str, Any]

    @property
    def exit_code(self) -> int:
        """As the command line ends; a shadow gate records and never fails."""
        return 0 if self.document["shadow"] else int(self.document["exit_code"])


def run_gate(
    policy: Policy,
    database: Database,
    suite: Suite,
    bench: Workbench | None = None,
    *,
    candidate: str | None = None,
    seed: int | None = None,
    timeout: float | None = None,
    warn_only: bool = False,
    shadow: bool = False,
    today: date | None = None,
) -> Recorded:
    """Decide and store. Without a ``bench`` only what is stored is judged, and nothing computed.

    Raises:
        InputError: the policy does not fit the suite, or names no candidate.
    """
    labels = labels_of(policy, suite)
    source: Source = Computed(bench, suite, frozenset(labels.values())) if bench else Stored(database, suite)
    with database.read() as session:
        sides = find_sides(session, policy, suite, candidate)
    day = today or now().date()
    try:
        with deadline(timeout):
            decision = decide(policy, suite, sides, source, day, seed)
    except Deadline as error:
        decision = undecided(policy, suite, sides, source, day, Absent("unavailable", str(error)))
    code = decision.verdict.exit_code(policy, warn_only=warn_only)
    body = document(decision, exit_code=code, shadow=shadow)
    with database.write() as session:
        row = tables.Gate(
            suite=suite.id,
            model=body["candidate"]["model"],
            step=body["candidate"]["step"],
            digest=body["candidate"]["digest"],
            baseline=body["baseline"]["rule"] if body["baseline"] else "",
            policy_digest=policy.digest,
            policy=body["policy"],
            status=decision.verdict.status,
            exit_code=code,
            shadow=shadow,
            evidence=body["evidence"],
            verdict=body["verdict"],
        )
        session.add(row)
        session.flush()
        outbox.gate_decided(session, row)
        number, at = row.id, row.created_at.isoformat(timespec="seconds")
    return Recorded(number, decision, {"gate": number, "at": at, **body})


def open_suite(policy: Policy, database: Database, plugins: Plugins, folder: Path) -> Suite:
    """The suite that a policy names: a file beside it, a shipped one, or one that was used before."""
    if policy.suite.endswith((".yaml", ".yml")):
        beside = folder / policy.suite
        return load_suite(str(beside if beside.is_file() else policy.suite), plugins)
    try:
        return load_suite(policy.suite, plugins)
    except InputError:
        with database.read() as session:
            body = queries.suite_body(session, policy.suite)
        if body is None:
            raise
        return Suite.model_validate(body)


def add_candidate(
    bench: Workbench,
    path: Path,
    generator: str,
    options: Mapping[str, Any],
    suite: Suite,
    naming: Naming,
) -> str:
    """Register a checkpoint file; the name by which a gate finds it.

    Raises:
        InputError: the step is neither given nor stated by the file's name, or the generator does not fit the suite.
    """
    from evalsvc.checkpoints import Checkpoint
    from evalsvc.lifecycle import register_checkpoint

    opened = Checkpoint.open(path, *naming.read(path))
    spec = bench.spec(opened, generator, dict(options), suite)
    with bench.database.write() as session:
        register_checkpoint(session, spec)
    return f"{opened.model}@{opened.step}"


def sample_grids(done: Recorded, database: Database) -> dict[str, np.ndarray]:
    """The first samples of candidate and baselines, where whole evaluations left galleries."""
    artifacts = open_artifacts(Settings())
    runs = {}
    for each in done.decision.evidence.values():
        for side, seen in (("candidate", each.candidate), ("baseline", each.baseline)):
            if isinstance(seen, Observation) and any(seen.runs):
                runs[side] = seen.runs[0]
    grids = {}
    with database.read() as session:
        for side, run in runs.items():
            for artifact in session.get_one(tables.Evaluation, run).artifacts:
                if artifact.kind == "gallery" and artifacts.exists(artifact.path):
                    grids[side] = artifacts.read_arrays(artifact.path)["pixels"]
    return grids
