"""The tables. :mod:`evalsvc.evaluation` writes them, :mod:`evalsvc.store.queries` reads."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Index,
    MetaData,
    String,
    UniqueConstraint,
    text,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import FunctionElement
from sqlalchemy.types import TypeDecorator

from evalsvc.core.cost import Cost
from evalsvc.core.errors import StorageError


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC datetimes on every database (SQLite itself forgets the zone)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive datetimes, and store UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a datetime without a time zone cannot be stored")
        return value.astimezone(UTC)

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], datetime | None]:
        """Read a datetime, or say that there is none any more."""
        read = super().result_processor(dialect, coltype) or (lambda value: value)

        def checked(value: Any) -> datetime | None:
            try:
                return read(value)
            except (ValueError, TypeError) as error:
                raise StorageError(
                    f"the database is damaged (a row holds no time, {error}): restore a backup"
                ) from None

        return checked

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give the zone back."""
        return value if value is None or value.tzinfo else value.replace(tzinfo=UTC)


class DatabaseTime(FunctionElement[datetime]):
    """The time when a statement runs, by the database's clock: all that is stored and compared is of this one clock.

    Machines need not agree about theirs. On SQLite it is to the millisecond.
    """

    type = UtcDateTime()
    inherit_cache = True


@compiles(DatabaseTime, "postgresql")
def _of_postgres(_element: DatabaseTime, _compiler: SQLCompiler, **_: Any) -> str:
    return "clock_timestamp()"


@compiles(DatabaseTime, "sqlite")
def _of_sqlite(_element: DatabaseTime, _compiler: SQLCompiler, **_: Any) -> str:
    return "strftime('%Y-%m-%d %H:%M:%f000', 'now')"  # as SQLAlchemy writes a datetime, so that text compares as time


def now() -> datetime:
    """The time by this machine's clock, in UTC: for calendars, never for what is compared with a stored time."""
    return datetime.now(UTC)


class Status(StrEnum):
    """Life of an evaluation."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"


IN_PROGRESS = (Status.QUEUED, Status.RUNNING)


class Failure(StrEnum):
    """Why an evaluation failed. After ``model`` another try gives the same; after the others it may go well."""

    INFRASTRUCTURE = "infrastructure"
    MODEL = "model"
    OUT_OF_MEMORY = "out_of_memory"
    TIMEOUT = "timeout"


class WorkerStatus(StrEnum):
    """Life of a worker process. ``lost`` is said by others, when it has not been heard of; it never works again."""

    ALIVE = "alive"
    DRAINING = "draining"
    STOPPED = "stopped"
    LOST = "lost"


WORKING = (WorkerStatus.ALIVE, WorkerStatus.DRAINING)


class Scope(StrEnum):
    """What a token allows. ``submit`` and ``worker`` may read too; ``admin`` may all."""

    READ = "read"
    SUBMIT = "submit"
    WORKER = "worker"
    ADMIN = "admin"


class ActorKind(StrEnum):
    """Who acts: a token of the API, a session of the pages, a user of the operating system, a worker process."""

    TOKEN = "token"
    PAGE = "page"
    USER = "user"
    WORKER = "worker"


class Outcome(StrEnum):
    """How an action ended. ``unchanged``: what was asked for was there already."""

    DONE = "done"
    UNCHANGED = "unchanged"
    REFUSED = "refused"


class Table(DeclarativeBase):
    """Base of all tables; constraint names are fixed so that migrations can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    __mapper_args__ = {"eager_defaults": True}  # noqa: RUF012  (times that the database sets are there after a flush)
    type_annotation_map = {datetime: UtcDateTime, dict[str, Any]: JSON, list[str]: JSON}  # noqa: RUF012


class Model(Table):
    """A model under training; its checkpoints are compared over time."""

    __tablename__ = "models"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    family: Mapped[str] = mapped_column(String(100), default="")
    created_at: Mapped[datetime] = mapped_column(default=DatabaseTime())


class Checkpoint(Table):
    """What is scored: a checkpoint, identified by the digest of its content, in a configuration.

    ``configuration`` is the digest of the generator, its version and its options. ``model@step`` is a label that
    several rows may share; :mod:`evalsvc.store.names` tells them apart.
    """

    __tablename__ = "checkpoints"
    __table_args__ = (UniqueConstraint("model_id", "step", "digest", "configuration"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"))
    step: Mapped[int] = mapped_column(BigInteger)
    digest: Mapped[str] = mapped_column(String(64), index=True)
    path: Mapped[str]
    generator: Mapped[str] = mapped_column(String(200))
    generator_version: Mapped[str] = mapped_column(String(300), default="")
    options: Mapped[dict[str, Any]]
    configuration: Mapped[str] = mapped_column(String(64), default="")
    created_at: Mapped[datetime] = mapped_column(default=DatabaseTime())

    model: Mapped[Model] = relationship(lazy="joined")


class Alias(Table):
    """A name such as ``production`` that points at a checkpoint."""

    __tablename__ = "aliases"

    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    checkpoint_id: Mapped[int] = mapped_column(ForeignKey("checkpoints.id"))
    updated_at: Mapped[datetime] = mapped_column(default=DatabaseTime(), onupdate=DatabaseTime())

    checkpoint: Mapped[Checkpoint] = relationship(lazy="joined")


class Reference(Table):
    """A named set of real samples on disk; ``stamp`` tells cheaply that the files were not touched.

    ``skipped`` are the files that were found unreadable and left out, as was asked.
    """

    __tablename__ = "references"

    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    modality: Mapped[str] = mapped_column(String(20))
    path: Mapped[str]
    digest: Mapped[str] = mapped_column(String(64))
    stamp: Mapped[str] = mapped_column(String(64))
    count: Mapped[int]
    skipped: Mapped[list[str]] = mapped_column(default=list)
    heldout_path: Mapped[str | None]
    heldout_digest: Mapped[str | None] = mapped_column(String(64))
    heldout_stamp: Mapped[str | None] = mapped_column(String(64))
    heldout_count: Mapped[int | None]
    heldout_skipped: Mapped[list[str]] = mapped_column(default=list)
    created_at: Mapped[datetime] = mapped_column(default=DatabaseTime())


class Suite(Table):
    """A suite as it was when it was first used; a name and version never change their meaning."""

    __tablename__ = "suites"
    __table_args__ = (UniqueConstraint("name", "version"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    version: Mapped[int]
    digest: Mapped[str] = mapped_column(String(64))
    body: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=DatabaseTime())


class Evaluation(Table):
    """One checkpoint under one suite. At most one is in progress, and one current, for a fingerprint.

    ``attempt`` counts how often it was asked for; what an older attempt brings late is refused. Only where ``on_queue``
    do workers take it up, and one that none has begun by ``begin_by`` fails. A ``fresh`` one computes its shards again,
    whatever others left under their names. ``work`` says how many samples and items each kind of shard is cut from.
    ``by`` asked for it (a token's name, or a user's), and ``token`` is the one whose quota it counts for;
    ``restricted`` says that it was a client of the API. Operators read ``detail`` beside ``error``; clients do not.

    ``device_seconds``, ``peak_memory`` (bytes) and ``energy`` (joules) are of all attempts; the energy is NULL as soon
    as a part of it is not known.
    """

    __tablename__ = "evaluations"
    __table_args__ = (
        Index(
            "uq_evaluations_in_progress",
            "checkpoint_id",
            "fingerprint",
            unique=True,
            sqlite_where=text("status IN ('queued', 'running')"),
            postgresql_where=text("status IN ('queued', 'running')"),
        ),
        Index(
            "uq_evaluations_current",
            "checkpoint_id",
            "fingerprint",
            unique=True,
            sqlite_where=text("status = 'succeeded'"),
            postgresql_where=text("status = 'succeeded'"),
        ),
        CheckConstraint(
            "status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled', 'superseded')", name="status"
        ),
        # The queue in its order, and what has waited too long.
        Index("ix_evaluations_queue", "status", "on_queue", "priority", "requested_at", "id"),
        Index("ix_evaluations_deadline", "status", "on_queue", "begin_by"),
        # What stands under a suite, and the newest of it, without the rows themselves, which are long.
        Index("ix_evaluations_standing", "suite_id", "status", "checkpoint_id", "id"),
        Index("ix_evaluations_checkpoint_id_status", "checkpoint_id", "status"),
        # What is counted, and what tells that anything has changed.
        Index("ix_evaluations_token_status", "token", "status"),
        Index("ix_evaluations_counted", "status", "failure", "finished_at", "requested_at", "id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    checkpoint_id: Mapped[int] = mapped_column(ForeignKey("checkpoints.id"))
    suite_id: Mapped[int] = mapped_column(ForeignKey("suites.id"))
    fingerprint: Mapped[str] = mapped_column(String(64), index=True)
    status: Mapped[str] = mapped_column(String(20))
    spec: Mapped[dict[str, Any]]
    provenance: Mapped[dict[str, Any]] = mapped_column(default=dict)
    error: Mapped[str | None]
    detail: Mapped[str | None]
    failure: Mapped[str | None] = mapped_column(String(20))
    attempt: Mapped[int] = mapped_column(default=1)
    priority: Mapped[int] = mapped_column(default=10)
    on_queue: Mapped[bool] = mapped_column(default=False)
    fresh: Mapped[bool] = mapped_column(default=False)
    restricted: Mapped[bool] = mapped_column(default=False)
    deadlines: Mapped[dict[str, Any]] = mapped_column(default=dict)
    work: Mapped[dict[str, Any]] = mapped_column(default=dict)
    by: Mapped[str] = mapped_column(String(200), default="")
    token: Mapped[str | None] = mapped_column(String(200))
    created_at: Mapped[datetime] = mapped_column(default=DatabaseTime())
    device_seconds: Mapped[float] = mapped_column(default=0.0)
    peak_memory: Mapped[int | None] = mapped_column(BigInteger)
    energy: Mapped[float | None] = mapped_column(default=0.0)
    requested_at: Mapped[datetime] = mapped_column(default=DatabaseTime())
    begin_by: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    checkpoint: Mapped[Checkpoint] = relationship(lazy="joined")
    suite: Mapped[Suite] = relationship(lazy="joined")
    scores: Mapped[list[Score]] = relationship(back_populates="evaluation", order_by="Score.position")
    artifacts: Mapped[list[Artifact]] = relationship(order_by="Artifact.kind")
    shards: Mapped[list[Shard]] = relationship(order_by="Shard.kind, Shard.start")

    def charge(self, cost: Cost) -> None:
        """Add what a piece of its work cost."""
        self.device_seconds += cost.seconds
        self.peak_memory = max(self.peak_memory or 0, cost.peak_memory or 0) or None
        self.energy = None if self.energy is None or cost.energy is None else self.energy + cost.energy


class Shard(Table):
    """A contiguous range of samples whose arrays are on disk; no ``seconds`` where an earlier run computed it."""

    __tablename__ = "shards"
    __table_args__ = (UniqueConstraint("evaluation_id", "kind", "start"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    evaluation_id: Mapped[int] = mapped_column(ForeignKey("evaluations.id"))
    kind: Mapped[str] = mapped_column(String(20))
    start: Mapped[int]
    stop: Mapped[int]
    path: Mapped[str]
    seconds: Mapped[float | None]
    worker: Mapped[str | None] = mapped_column(String(200))
    finished_at: Mapped[datetime] = mapped_column(default=DatabaseTime())


class Worker(Table):
    """One process that works for the queue. ``seen_at`` is by the database's clock, as all judging of it is.

    A slot says what it is at: ``done`` samples of a shard of ``stage`` that is not finished yet.
    """

    __tablename__ = "workers"
    __table_args__ = (
        CheckConstraint("role IN ('slot', 'coordinator')", name="role"),
        CheckConstraint("status IN ('alive', 'draining', 'stopped', 'lost')", name="status"),
    )

    id: Mapped[str] = mapped_column(String(200), primary_key=True)
    role: Mapped[str] = mapped_column(String(20))
    host: Mapped[str] = mapped_column(String(200))
    pid: Mapped[int]
    device: Mapped[str] = mapped_column(String(50))
    status: Mapped[str] = mapped_column(String(20), default=WorkerStatus.ALIVE)
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    evaluation_id: Mapped[int | None] = mapped_column(ForeignKey("evaluations.id"))
    stage: Mapped[str | None] = mapped_column(String(20))
    done: Mapped[int] = mapped_column(default=0)


class Protocol(Table):
    """The facts that make two scores comparable; its id is their digest."""

    __tablename__ = "protocols"

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    facts: Mapped[dict[str, Any]]


class Score(Table):
    """One number with its uncertainty, under one protocol. Always finite."""

    __tablename__ = "scores"
    __table_args__ = (
        UniqueConstraint("evaluation_id", "label"),
        # NaN equals itself on Postgres and is NULL on SQLite; the two bounds refuse it, and infinity, on both.
        CheckConstraint("value > -1e308 AND value < 1e308", name="value_is_finite"),
        CheckConstraint("direction IN ('lower', 'higher', 'neutral')", name="direction"),
        Index("ix_scores_label_protocol_id_evaluation_id", "label", "protocol_id", "evaluation_id"),
        Index("ix_scores_label_id", "label", "id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    evaluation_id: Mapped[int] = mapped_column(ForeignKey("evaluations.id"))
    position: Mapped[int]
    label: Mapped[str] = mapped_column(String(100))
    quantity: Mapped[str] = mapped_column(String(100))
    value: Mapped[float]
    stderr: Mapped[float | None]
    ci_low: Mapped[float | None]
    ci_high: Mapped[float | None]
    n: Mapped[int]
    direction: Mapped[str] = mapped_column(String(10))
    unit: Mapped[str] = mapped_column(String(50))
    stderr_method: Mapped[str]
    details: Mapped[dict[str, Any]]
    protocol_id: Mapped[str] = mapped_column(ForeignKey("protocols.id"))

    evaluation: Mapped[Evaluation] = relationship(back_populates="scores")
    protocol: Mapped[Protocol] = relationship(lazy="joined")


class Artifact(Table):
    """A file that belongs to an evaluation: gallery, neighbours."""

    __tablename__ = "artifacts"
    __table_args__ = (UniqueConstraint("evaluation_id", "kind"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    evaluation_id: Mapped[int] = mapped_column(ForeignKey("evaluations.id"))
    kind: Mapped[str] = mapped_column(String(50))
    path: Mapped[str]
    digest: Mapped[str] = mapped_column(String(64))
    bytes: Mapped[int] = mapped_column(BigInteger)


class Gate(Table):
    """One decision about one checkpoint under one policy: the evidence as it was, and apart from it the verdict.

    ``checkpoint_id`` is exactly what was judged, the configuration included; there is none where nothing was found.
    """

    __tablename__ = "gates"
    __table_args__ = (
        CheckConstraint(
            "status IN ('PASS', 'FAIL', 'INCONCLUSIVE', 'MISSING', 'NOT_COMPARABLE', 'ERROR')", name="status"
        ),
        Index("ix_gates_model_suite_status", "model", "suite", "status"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    suite: Mapped[str] = mapped_column(String(200))
    model: Mapped[str] = mapped_column(String(200))
    step: Mapped[int | None] = mapped_column(BigInteger)
    digest: Mapped[str] = mapped_column(String(64))
    checkpoint_id: Mapped[int | None] = mapped_column(ForeignKey("checkpoints.id"), index=True)
    baseline: Mapped[str]
    policy_digest: Mapped[str] = mapped_column(String(64))
    policy: Mapped[dict[str, Any]]
    status: Mapped[str] = mapped_column(String(20))
    exit_code: Mapped[int]
    shadow: Mapped[bool]
    evidence: Mapped[dict[str, Any]]
    verdict: Mapped[dict[str, Any]]
    by: Mapped[str] = mapped_column(String(200), default="")
    created_at: Mapped[datetime] = mapped_column(default=DatabaseTime(), index=True)


class PromotionKind(StrEnum):
    """How an alias came to be set: for the first time, by a gate, by hand, or back to what it pointed at before."""

    FIRST = "first"
    GATE = "gate"
    SET = "set"
    ROLLBACK = "rollback"


class GateSpending(Table):
    """The share of the level that one decision spent, booked to one account: see :mod:`evalsvc.gates.spending`.

    ``number`` counts the decisions of an account: of two at one moment only one is booked.
    """

    __tablename__ = "gate_spending"
    __table_args__ = (UniqueConstraint("candidate", "configuration", "protocol", "baseline", "number"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    gate_id: Mapped[int] = mapped_column(ForeignKey("gates.id"), index=True)
    candidate: Mapped[str] = mapped_column(String(64))
    configuration: Mapped[str] = mapped_column(String(64))
    protocol: Mapped[str] = mapped_column(String(32))
    baseline: Mapped[str] = mapped_column(String(64))
    number: Mapped[int]
    share: Mapped[float]


class Promotion(Table):
    """An alias that was set, by whom and how; ``gate_id`` is the decision that allowed it, where one was asked for."""

    __tablename__ = "promotions"
    __table_args__ = (CheckConstraint("kind IN ('first', 'gate', 'set', 'rollback')", name="kind"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    alias: Mapped[str] = mapped_column(String(200), index=True)
    checkpoint_id: Mapped[int] = mapped_column(ForeignKey("checkpoints.id"))
    gate_id: Mapped[int | None] = mapped_column(ForeignKey("gates.id"))
    kind: Mapped[str] = mapped_column(String(20))
    by: Mapped[str] = mapped_column(String(200), default="")
    reason: Mapped[str] = mapped_column(String(500), default="")
    created_at: Mapped[datetime] = mapped_column(default=DatabaseTime())

    checkpoint: Mapped[Checkpoint] = relationship(lazy="joined")


class Protection(Table):
    """The one policy by whose decisions an alias moves, as it was when it was pinned; ended ones are kept."""

    __tablename__ = "protections"
    __table_args__ = (
        Index(
            "uq_protections_alias",
            "alias",
            unique=True,
            sqlite_where=text("ended_at IS NULL"),
            postgresql_where=text("ended_at IS NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    alias: Mapped[str] = mapped_column(String(200))
    suite: Mapped[str] = mapped_column(String(200))
    suite_digest: Mapped[str] = mapped_column(String(64))
    policy_digest: Mapped[str] = mapped_column(String(64))
    policy: Mapped[dict[str, Any]]
    by: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[datetime] = mapped_column(default=DatabaseTime())
    ended_by: Mapped[str | None] = mapped_column(String(200))
    ended_at: Mapped[datetime | None]


class Token(Table):
    """The right to use the HTTP API. Only the sha256 of the secret is kept."""

    __tablename__ = "tokens"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    scopes: Mapped[list[str]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(default=DatabaseTime())
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]


class QuotaUse(Table):
    """What tokens of one name used on one day of UTC: see :mod:`evalsvc.evaluation.quotas`."""

    __tablename__ = "quota_use"

    token: Mapped[str] = mapped_column(String(200), primary_key=True)
    day: Mapped[str] = mapped_column(String(10), primary_key=True)
    device_seconds: Mapped[float] = mapped_column(default=0.0)
    upload_bytes: Mapped[int] = mapped_column(BigInteger, default=0)


class UploadUse(Table):
    """An upload that counts for a token; without a digest while it is under way."""

    __tablename__ = "upload_use"

    id: Mapped[int] = mapped_column(primary_key=True)
    token: Mapped[str] = mapped_column(String(200), index=True)
    digest: Mapped[str | None] = mapped_column(String(64))
    bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    created_at: Mapped[datetime] = mapped_column(default=DatabaseTime())


class Webhook(Table):
    """An address that is told of events.

    What signs its messages is computed from ``salt`` under a key that :mod:`evalsvc.core.secret_keys` names ``key``.
    Without such a key it is random, and kept as ``secret``.
    """

    __tablename__ = "webhooks"

    id: Mapped[int] = mapped_column(primary_key=True)
    url: Mapped[str]
    events: Mapped[list[str]] = mapped_column(JSON)
    secret: Mapped[str | None] = mapped_column(String(100))
    salt: Mapped[str | None] = mapped_column(String(64))
    key: Mapped[str | None] = mapped_column(String(16))
    created_at: Mapped[datetime] = mapped_column(default=DatabaseTime())
    failing_since: Mapped[datetime | None]
    last_error: Mapped[str | None]


class Delivery(Table):
    """A message that a webhook is still owed, written in the transaction of the event that it tells of."""

    __tablename__ = "deliveries"

    id: Mapped[int] = mapped_column(primary_key=True)
    webhook_id: Mapped[int] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"), index=True)
    event: Mapped[str] = mapped_column(String(50))
    body: Mapped[dict[str, Any]]
    attempts: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime] = mapped_column(default=DatabaseTime())
    due_at: Mapped[datetime] = mapped_column(default=DatabaseTime(), index=True)

    webhook: Mapped[Webhook] = relationship(lazy="joined")


class Rating(Table):
    """Which of two samples of the same number somebody preferred, not knowing whose they were; ``left`` as shown."""

    __tablename__ = "ratings"
    __table_args__ = (CheckConstraint("outcome IN ('left', 'right', 'tie')", name="outcome"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    suite: Mapped[str] = mapped_column(String(200), index=True)
    left_id: Mapped[int] = mapped_column(ForeignKey("evaluations.id"))
    right_id: Mapped[int] = mapped_column(ForeignKey("evaluations.id"))
    sample: Mapped[int]
    outcome: Mapped[str] = mapped_column(String(10))
    rater: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[datetime] = mapped_column(default=DatabaseTime())


class AuditEntry(Table):
    """Who did what to what: see :mod:`evalsvc.store.audit`. ``token_id`` outlives its token: no foreign key."""

    __tablename__ = "audit"
    __table_args__ = (
        CheckConstraint("actor_kind IN ('token', 'page', 'user', 'worker')", name="actor_kind"),
        CheckConstraint("outcome IN ('done', 'unchanged', 'refused')", name="outcome"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(index=True)
    actor_kind: Mapped[str] = mapped_column(String(10))
    actor: Mapped[str] = mapped_column(String(200), index=True)
    token_id: Mapped[int | None]
    address: Mapped[str] = mapped_column(String(64))
    request: Mapped[str] = mapped_column(String(64))
    action: Mapped[str] = mapped_column(String(50))
    subject: Mapped[str] = mapped_column(String(300), index=True)
    outcome: Mapped[str] = mapped_column(String(20))
    detail: Mapped[dict[str, Any]]
