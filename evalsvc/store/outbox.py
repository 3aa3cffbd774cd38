"""Transactional outbox: events for webhooks are stored in the transaction that causes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from evalsvc.store import names
from evalsvc.store.tables import Delivery, Evaluation, Gate, Webhook


def evaluation_ended(session: Session, row: Evaluation) -> None:
    """Queue the event for an evaluation that succeeded, failed or was canceled."""
    body = {
        "evaluation": row.id,
        "name": names.title_of(session, row.checkpoint),
        "model": row.checkpoint.model.name,
        "step": row.checkpoint.step,
        "digest": row.checkpoint.digest,
        "configuration": row.checkpoint.configuration,
        "suite": f"{row.suite.name}@{row.suite.version}",
        "status": row.status,
        "failure": row.failure,
        "error": row.error,
        "attempt": row.attempt,
    }
    _owe(session, "evaluation.ended", body)


def gate_decided(session: Session, row: Gate) -> None:
    """Queue the event for a gate decision."""
    body = {
        "gate": row.id,
        "status": row.status,
        "reason": row.verdict["reason"],
        "exit_code": row.exit_code,
        "shadow": row.shadow,
        "suite": row.suite,
        "candidate": {
            "name": names.titles_of_gates(session, [row])[row.id],
            "model": row.model,
            "step": row.step,
            "digest": row.digest,
        },
        "baseline": row.baseline,
        "policy_digest": row.policy_digest,
    }
    _owe(session, "gate.decided", body)


def _owe(session: Session, event: str, body: Mapping[str, Any]) -> None:
    for webhook in session.scalars(select(Webhook)):
        if event in webhook.events:
            session.add(Delivery(webhook_id=webhook.id, event=event, body=dict(body)))
