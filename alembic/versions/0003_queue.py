"""the queue: attempts, priorities, deadlines, workers"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "workers",
        sa.Column("id", sa.String(length=200), nullable=False),
        sa.Column("role", sa.String(length=20), nullable=False),
        sa.Column("host", sa.String(length=200), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("device", sa.String(length=50), nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("evaluation_id", sa.Integer(), nullable=True),
        sa.Column("stage", sa.String(length=20), nullable=True),
        sa.Column("done", sa.Integer(), nullable=False),
        sa.CheckConstraint("role IN ('slot', 'coordinator')", name=op.f("ck_workers_role")),
        sa.CheckConstraint("status IN ('alive', 'draining', 'stopped', 'lost')", name=op.f("ck_workers_status")),
        sa.ForeignKeyConstraint(["evaluation_id"], ["evaluations.id"], name=op.f("fk_workers_evaluation_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
    )
    # In place: a table that others point at cannot be dropped and built anew while foreign keys are enforced.
    with op.batch_alter_table("evaluations", schema=None, recreate="never") as batch_op:
        batch_op.add_column(sa.Column("failure", sa.String(length=20), nullable=True))
        batch_op.add_column(sa.Column("attempt", sa.Integer(), nullable=False, server_default="1"))
        batch_op.add_column(sa.Column("priority", sa.Integer(), nullable=False, server_default="10"))
        batch_op.add_column(sa.Column("on_queue", sa.Boolean(), nullable=False, server_default=sa.text("false")))
        batch_op.add_column(sa.Column("deadlines", sa.JSON(), nullable=False, server_default="{}"))
        batch_op.add_column(sa.Column("work", sa.JSON(), nullable=False, server_default="{}"))
        batch_op.add_column(
            sa.Column(
                "requested_at", sa.DateTime(timezone=True), nullable=False, server_default="2026-01-01 00:00:00+00:00"
            )
        )
        batch_op.add_column(sa.Column("started_at", sa.DateTime(timezone=True), nullable=True))
        batch_op.create_index("ix_evaluations_status_on_queue", ["status", "on_queue"], unique=False)
    op.execute("UPDATE evaluations SET requested_at = created_at")

    with op.batch_alter_table("shards", schema=None) as batch_op:
        batch_op.add_column(sa.Column("worker", sa.String(length=200), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("shards", schema=None) as batch_op:
        batch_op.drop_column("worker")

    with op.batch_alter_table("evaluations", schema=None) as batch_op:
        batch_op.drop_index("ix_evaluations_status_on_queue")
        batch_op.drop_column("started_at")
        batch_op.drop_column("requested_at")
        batch_op.drop_column("work")
        batch_op.drop_column("deadlines")
        batch_op.drop_column("on_queue")
        batch_op.drop_column("priority")
        batch_op.drop_column("attempt")
        batch_op.drop_column("failure")

    op.drop_table("workers")
