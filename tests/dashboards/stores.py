"""Stores of every kind that a page may meet, filled without computing anything."""

from __future__ import annotations

import math
from datetime import timedelta

from sqlalchemy import insert, select

from evalsvc.core.digests import digest_configuration
from evalsvc.inputs.suites import load_suite
from evalsvc.store import names
from evalsvc.store.session import Database
from evalsvc.store.tables import Checkpoint, Evaluation, Gate, Model, Protocol, Score, Status, Suite, now

DIGITS = load_suite("digits@1")
PLAIN = digest_configuration("gan", "", {})
HOSTILE = (
    "<img src=x onerror=document.title='pwned'>",
    "**bold** [link](javascript:alert(1)) $x^2$ :red[colour] :material/delete: `code`",
    "\u202egnp.exe\u202c\x00\x1b[31m",
    '=HYPERLINK("http://evil")',
    "name with spaces & <b>tags</b> / slashes \\ ?x=1&y=2 #hash %2e%2e",
    "x" * 200,
)


def fill(database: Database, models: list[str], steps: range, labels: int = 3, family: str = "gan") -> None:
    """Checkpoints with scores that improve with the step; the labels are those of digits@1, then made-up ones."""
    labels_ = [*DIGITS.labels, *(f"extra_{i}" for i in range(99))][:labels]
    directions = {
        name: "lower" if "distance" in name or "bits" in name or "extra" in name else "higher" for name in labels_
    }
    with database.write() as session:
        session.add(Suite(id=1, name="digits", version=1, digest=DIGITS.digest, body=DIGITS.model_dump(mode="json")))
        session.add(Protocol(id="p", facts={"samples": 2000}))
        session.flush()
        session.execute(insert(Model), [{"id": i + 1, "name": name, "family": family} for i, name in enumerate(models)])
        checkpoints, runs, scores = [], [], []
        for model in range(len(models)):
            for place, step in enumerate(steps):
                key = model * len(steps) + place + 1
                checkpoints.append(
                    {
                        "id": key,
                        "model_id": model + 1,
                        "step": step,
                        "digest": f"{key:064x}",
                        "path": "gone",
                        "generator": "gan",
                        "options": {},
                        "configuration": PLAIN,
                    }
                )
                runs.append(
                    {
                        "id": key,
                        "checkpoint_id": key,
                        "suite_id": 1,
                        "fingerprint": f"{key}",
                        "status": Status.SUCCEEDED,
                        "spec": {"seed": 1},
                        "provenance": {"samples_per_second": 100.0 + model},
                        "finished_at": now() - timedelta(seconds=key),
                    }
                )
                for position, label in enumerate(labels_):
                    value = (10 + model + 90 * math.exp(-place / 20)) / (1 if directions[label] == "lower" else 200)
                    scores.append(
                        {
                            "evaluation_id": key,
                            "position": position,
                            "label": label,
                            "quantity": label,
                            "value": value,
                            "stderr": value / 50,
                            "ci_low": value * 0.96,
                            "ci_high": value * 1.04,
                            "n": 2000,
                            "direction": directions[label],
                            "unit": "",
                            "stderr_method": "",
                            "details": {},
                            "protocol_id": "p",
                        }
                    )
        for table, rows in ((Checkpoint, checkpoints), (Evaluation, runs), (Score, scores)):
            session.execute(insert(table), rows)


def add_twins(database: Database, step: int) -> list[str]:
    """Of model 1 at a step another content, and the first content with options of all kinds: the names of all."""
    with database.write() as session:
        first = session.scalars(select(Checkpoint).where(Checkpoint.model_id == 1, Checkpoint.step == step)).one()
        asked = [(f"{'e' * 64}", {}), *((first.digest, {"noise": noise}) for noise in (200, *HOSTILE))]
        for place, (digest, options) in enumerate(asked):
            row = Checkpoint(
                model_id=1,
                step=step,
                digest=digest,
                path="gone",
                generator="gan",
                options=options,
                configuration=digest_configuration("gan", "", options),
            )
            session.add(row)
            session.flush()
            run = Evaluation(
                checkpoint_id=row.id,
                suite_id=1,
                fingerprint=f"twin{place}",
                status=Status.SUCCEEDED,
                spec={"seed": 1},
                provenance={},
                finished_at=now(),
            )
            session.add(run)
            session.flush()
            columns = [column.name for column in Score.__table__.columns if column.name not in ("id", "evaluation_id")]
            for score in session.scalars(select(Score).where(Score.evaluation_id == 1)):
                session.add(Score(evaluation_id=run.id, **{name: getattr(score, name) for name in columns}))
        rows = session.scalars(select(Checkpoint).where(Checkpoint.model_id == 1, Checkpoint.step == step)).all()
        return sorted(names.titles(session, rows).values())


def add_failure(database: Database, model: int, step: int, error: str) -> None:
    """A checkpoint whose only evaluation failed."""
    with database.write() as session:
        row = Checkpoint(
            model_id=model,
            step=step,
            digest=f"f{model}{step}".ljust(64, "0"),
            path="gone",
            generator="gan",
            options={},
            configuration=PLAIN,
        )
        session.add(row)
        session.flush()
        session.add(
            Evaluation(
                checkpoint_id=row.id,
                suite_id=1,
                fingerprint=f"failed{model}{step}",
                status=Status.FAILED,
                spec={"seed": 1},
                error=error,
                failure="model",
                finished_at=now(),
            )
        )


def add_gate(database: Database, model: str, step: int, status: str = "FAIL") -> None:
    """A decision with one limit of each kind that a plot knows."""
    side = {
        "value": 12.0,
        "below": 0.2,
        "above": 0.2,
        "stderr": 0.2,
        "n": 2000,
        "protocol": "p",
        "facts": {},
        "method": "",
        "runs": [],
        "replicates": 1,
    }
    compared = {"kind": "max", "limit": 10.0, "estimate": 12.0, "low": 11.6, "high": 12.4}
    metric = {
        "direction": "lower",
        "candidate": side,
        "baseline": None,
        "covariance": 0.0,
        "drift": None,
        "comparisons": [compared],
    }
    verdict = {
        "metric": "frechet_distance",
        "tier": "critical",
        "status": status,
        "reason": model,
        "blocks": True,
        "waiver": None,
        "limits": [{"kind": "max", "limit": 10.0, "status": status, "reason": model}],
    }
    with database.write() as session:
        session.add(
            Gate(
                suite="digits@1",
                model=model,
                step=step,
                digest="0" * 64,
                baseline=model,
                policy_digest="0" * 64,
                policy={
                    "version": 1,
                    "suite": "digits@1",
                    "metrics": {"frechet_distance": {"max": 10.0}},
                    "waivers": [{"metric": "frechet_distance", "reason": model, "by": model, "expires": "2027-01-01"}],
                },
                status=status,
                exit_code=3,
                shadow=True,
                evidence={
                    "metrics": {"frechet_distance": metric},
                    "looks": [{}],
                    "samples": 2000,
                    "suite_samples": 2000,
                    "git_commit": None,
                },
                verdict={"status": status, "reason": model, "warnings": [model], "metrics": [verdict]},
            )
        )
