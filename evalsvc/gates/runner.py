"""Run one gate from policy to stored decision, for the command line, the pytest plug-in and promotion."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np

from evalsvc.core.deadline import Deadline, TimeLimit
from evalsvc.core.errors import InputError
from evalsvc.core.observability import logs
from evalsvc.core.settings import Settings
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.evaluation.registration import unchanged_suite
from evalsvc.gates.decide import Decision, decide, undecided
from evalsvc.gates.documents import document
from evalsvc.gates.evidence import Absent, Observation
from evalsvc.gates.history import book, read_history
from evalsvc.gates.policy import Policy
from evalsvc.gates.resolution import Sides, Wanted, find_sides, labels_of
from evalsvc.gates.sequential import Look
from evalsvc.gates.sources import Computed, Source, Stored
from evalsvc.gates.spending import Account, accounts
from evalsvc.gates.verdict import Status
from evalsvc.inputs.suites import Suite
from evalsvc.plugins.registry import Plugins
from evalsvc.store import audit, outbox, tables
from evalsvc.store.artifacts import open_artifacts
from evalsvc.store.session import Database, clock, database_time

log = logging.getLogger(__name__)

JUDGED = (Status.PASS, Status.FAIL, Status.INCONCLUSIVE)
"""Statuses that result from evidence. Other statuses spend no share of the level, because they cannot pass the gate."""


@dataclass(frozen=True)
class Recorded:
    """A decision with its row id and exit code."""

    id: int
    decision: Decision
    document: Mapping[str, Any]

    @property
    def exit_code(self) -> int:
        """Exit code of the command line: always 0 for a shadow gate."""
        return 0 if self.document["shadow"] else int(self.document["exit_code"])


def run_gate(
    policy: Policy,
    database: Database,
    suite: Suite,
    context: EvaluationContext | None = None,
    *,
    candidate: Wanted | Callable[[], Wanted] | None = None,
    seed: int | None = None,
    timeout: float | TimeLimit | None = None,
    warn_only: bool = False,
    shadow: bool = False,
    today: date | None = None,
    plugins: Plugins | None = None,
    open_context: Callable[[], EvaluationContext] | None = None,
) -> Recorded:
    """Decide a gate and store the decision.

    Without a ``context`` only stored scores are judged and nothing is sampled. With ``open_context``, scores of an
    outdated protocol are recomputed from their shards. ``candidate`` is a name, a row id, the reason for its absence,
    or a function that opens a path and returns one of these
    (:meth:`evalsvc.gates.candidate.RequestedCandidate.find`). Opening the candidate counts toward the time limit;
    exceeding it is an ERROR.

    Raises:
        InputError: the policy does not fit the suite or lacks a candidate, the suite has changed since it was used, or
            the requested seed has no stored scores and nothing may be computed.
    """
    if policy.also:
        raise InputError("this policy has several suites: run each of its parts as a gate of its own")
    labels = labels_of(policy, suite)
    gated = frozenset(labels.values())
    source: Source = Stored(database, suite, open_artifacts(Settings()), gated, plugins or Plugins(), open_context)
    if context:
        source = Computed(context, suite, gated)
    limit = timeout if isinstance(timeout, TimeLimit) else TimeLimit(timeout)
    late: Deadline | None = None
    sides = Sides(Absent("unavailable", "the candidate could not be opened within the time limit"), None)
    try:
        with limit.block():
            named = candidate() if callable(candidate) else candidate
            with database.read() as session:
                unchanged_suite(session, suite)
                sides = find_sides(session, policy, suite, named)
            if seed is not None and isinstance(sides.candidate, tables.Checkpoint):
                _check_seed(sides.candidate, source, seed)
    except Deadline as error:
        late = error
    day = today or database_time(database).date()
    policy.check_waivers(day)
    booked = accounts(policy, suite, sides, labels)
    while True:
        with database.read() as session:
            history = read_history(session, booked)
        taken: list[Look] = []
        unfinished = False
        try:
            if late:
                raise late
            with limit.block():
                decision = decide(policy, suite, sides, source, day, seed, history, taken)
        except Deadline as error:
            why = Absent("unavailable", str(error))
            decision, unfinished = undecided(policy, suite, sides, source, day, why, history, taken), True
        code = decision.verdict.exit_code(policy, warn_only=warn_only)
        body = document(decision, exit_code=code, shadow=shadow)
        if recorded := _record(database, suite, decision, body, booked, unfinished):
            number, at = recorded
            return Recorded(number, decision, {"gate": number, "at": at, **body})


def _check_seed(candidate: tables.Checkpoint, source: Source, seed: int) -> None:
    """Raise if the requested seed has no stored scores and none can be computed."""
    if source.stored(candidate, None) and not source.computes and not source.stored(candidate, seed):
        name = f"{candidate.model.name}@{candidate.step}"
        raise InputError(
            f"{name} has no stored scores of seed {seed}: score it with this seed, or remove --seed or --stored"
        )


def _record(
    database: Database,
    suite: Suite,
    decision: Decision,
    body: Mapping[str, Any],
    booked: set[Account],
    unfinished: bool,
) -> tuple[int, str] | None:
    """Store the decision; return its number and time, or ``None`` if another gate judged the same candidate meanwhile.

    A decision without evidence spends no share of the level, but interrupted looks do.
    """
    candidate, spending = decision.sides.candidate, decision.spending
    with database.write() as session:
        if read_history(session, booked).decisions != decision.history.decisions:
            return None
        row = tables.Gate(
            suite=suite.id,
            model=body["candidate"]["model"],
            step=body["candidate"]["step"],
            digest=body["candidate"]["digest"],
            checkpoint_id=candidate.id if isinstance(candidate, tables.Checkpoint) else None,
            baseline=body["baseline"]["rule"] if body["baseline"] else "",
            policy_digest=decision.policy.digest,
            policy=body["policy"],
            status=decision.verdict.status,
            exit_code=body["exit_code"],
            shadow=body["shadow"],
            evidence=body["evidence"],
            verdict=body["verdict"],
            by=audit.current().name[:200],
            created_at=clock(session),
        )
        session.add(row)
        session.flush()
        spends = spending and (unfinished or decision.verdict.status in JUDGED)
        if spending and spends and not book(session, row.id, booked, spending.spent):
            session.rollback()
            return None
        audit.record(
            session,
            audit.Action.GATE_DECIDE,
            f"gate {row.id}",
            {
                "candidate": f"{row.model}@{row.step}",
                "suite": row.suite,
                "policy": row.policy_digest[:12],
                "status": row.status,
                "shadow": row.shadow,
            },
        )
        outbox.gate_decided(session, row)
    name, by = f"{row.model}@{row.step}", row.by
    facts = logs.fields(gate=row.id, candidate=name, suite=row.suite, status=row.status, shadow=row.shadow, by=by)
    log.info("gate %d: %s under %s is %s (by %r)", row.id, name, row.suite, row.status, by, extra=facts)
    return row.id, row.created_at.isoformat(timespec="seconds")


def sample_grids(done: Recorded, database: Database) -> dict[str, np.ndarray]:
    """The first samples of candidate and baselines, if their evaluations stored galleries of images."""
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
                if artifact.kind == "gallery" and artifacts.is_sound(artifact.path):
                    pixels = artifacts.read_arrays(artifact.path).get("pixels")
                    if pixels is not None and pixels.ndim == 4:
                        grids[side] = pixels
    return grids
