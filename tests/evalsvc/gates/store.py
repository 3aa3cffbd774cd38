"""Stored scores without computing any."""

from __future__ import annotations

from datetime import timedelta

from evalsvc.core.digests import digest_configuration
from evalsvc.gates.policy import Policy
from evalsvc.inputs.suites import load_suite
from evalsvc.store.tables import Alias, Checkpoint, Evaluation, Model, Protocol, Score, Status, Suite, now

DIGITS = load_suite("digits@1")


def add_checkpoint(session, model="flow", step=1, digest="", options=None) -> Checkpoint:
    owner = session.query(Model).filter_by(name=model).one_or_none() or Model(name=model)
    session.add(owner)
    session.flush()
    row = Checkpoint(
        model_id=owner.id,
        step=step,
        digest=digest or f"{model}{step}".ljust(64, "0"),
        path="gone",
        generator="flow",
        options=options or {},
        configuration=digest_configuration("flow", "", options or {}),
    )
    session.add(row)
    session.flush()
    return row


def add_scores(
    session, checkpoint, values, *, seed=2026, status=Status.SUCCEEDED, n=2000, error=None, protocol="p", suite=DIGITS
):
    """``values``: label to value, or to (value, standard error)."""
    known = session.query(Suite).filter_by(name=suite.name).one_or_none()
    under = known or Suite(name=suite.name, version=1, digest=suite.digest, body=suite.model_dump(mode="json"))
    session.add(under)
    session.flush()
    run = Evaluation(
        checkpoint_id=checkpoint.id,
        suite_id=under.id,
        fingerprint=f"{suite.id}-{checkpoint.id}-{seed}",
        status=status,
        spec={"seed": seed},
        error=error,
    )
    session.add(run)
    session.merge(Protocol(id=protocol, facts={"samples": n}))
    for position, (label, value) in enumerate(values.items()):
        number, stderr = value if isinstance(value, tuple) else (value, 0.1)
        sure = stderr is not None
        run.scores.append(
            Score(
                position=position,
                label=label,
                quantity=label,
                value=number,
                stderr=stderr,
                ci_low=number - 1.96 * stderr if sure else None,
                ci_high=number + 1.96 * stderr if sure else None,
                n=n,
                direction="higher" if label == "recall" else "lower",
                unit="",
                stderr_method="",
                details={},
                protocol_id=protocol,
            )
        )
    session.flush()
    return run


def point(session, name, checkpoint):
    """Set an alias, as of yesterday."""
    session.merge(Alias(name=name, checkpoint_id=checkpoint.id, updated_at=now() - timedelta(1)))


def gate_policy(**changes) -> Policy:
    body = {
        "version": 1,
        "suite": "digits@1",
        "candidate": {"model": "flow", "step": 9},
        "baseline": {"alias": "production"},
        "metrics": {"frechet_distance": {"max_worsening": 2.0}},
    }
    return Policy.model_validate(body | changes)
