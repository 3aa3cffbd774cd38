"""Tables, one file per noun. :mod:`evalsvc.evaluation` writes them, :mod:`evalsvc.store.queries` reads them."""

from __future__ import annotations

from evalsvc.store.tables.audit import ActorKind, AuditEntry, Outcome
from evalsvc.store.tables.base import DatabaseTime, Table, UtcDateTime, now
from evalsvc.store.tables.evaluations import IN_PROGRESS, Evaluation, Failure, Shard, Status
from evalsvc.store.tables.gates import Gate, GateSpending
from evalsvc.store.tables.models import Alias, Checkpoint, Model
from evalsvc.store.tables.promotions import Promotion, PromotionKind, Protection
from evalsvc.store.tables.ratings import Judgment, Rating
from evalsvc.store.tables.scores import Artifact, Protocol, Score
from evalsvc.store.tables.suites import Reference, Suite
from evalsvc.store.tables.tokens import QuotaUse, Scope, Token, UploadUse
from evalsvc.store.tables.webhooks import Delivery, Webhook
from evalsvc.store.tables.workers import WORKING, Worker, WorkerStatus

__all__ = [
    "IN_PROGRESS",
    "WORKING",
    "ActorKind",
    "Alias",
    "Artifact",
    "AuditEntry",
    "Checkpoint",
    "DatabaseTime",
    "Delivery",
    "Evaluation",
    "Failure",
    "Gate",
    "GateSpending",
    "Judgment",
    "Model",
    "Outcome",
    "Promotion",
    "PromotionKind",
    "Protection",
    "Protocol",
    "QuotaUse",
    "Rating",
    "Reference",
    "Scope",
    "Score",
    "Shard",
    "Status",
    "Suite",
    "Table",
    "Token",
    "UploadUse",
    "UtcDateTime",
    "Webhook",
    "Worker",
    "WorkerStatus",
    "now",
]
