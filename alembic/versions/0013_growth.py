"""indexes for a store that grows, and until when what is queued may wait"""

from datetime import timedelta

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

LONGEST_WAIT = 1e9
evaluations = sa.table(
    "evaluations",
    *map(sa.column, ("id", "status")),
    sa.column("deadlines", sa.JSON()),
    *(sa.column(name, sa.DateTime(timezone=True)) for name in ("requested_at", "begin_by")),
)
ADDED = {
    "ix_evaluations_queue": ["status", "on_queue", "priority", "requested_at", "id"],
    "ix_evaluations_deadline": ["status", "on_queue", "begin_by"],
    "ix_evaluations_standing": ["suite_id", "status", "checkpoint_id", "id"],
    "ix_evaluations_checkpoint_id_status": ["checkpoint_id", "status"],
    "ix_evaluations_counted": ["status", "failure", "finished_at", "requested_at", "id"],
}
REPLACED = {
    "ix_evaluations_status_on_queue": ["status", "on_queue"],
    "ix_evaluations_checkpoint_id": ["checkpoint_id"],
    "ix_evaluations_suite_id": ["suite_id"],
}
OF_SCORES = {
    "ix_scores_label_protocol_id_evaluation_id": ["label", "protocol_id", "evaluation_id"],
    "ix_scores_label_id": ["label", "id"],
}


def upgrade() -> None:
    op.add_column("evaluations", sa.Column("begin_by", sa.DateTime(timezone=True), nullable=True))
    connection = op.get_bind()
    queued = sa.select(evaluations).where(evaluations.c.status == "queued")
    for row in connection.execute(queued).mappings().all():
        if limit := (row["deadlines"] or {}).get("queued"):
            begin_by = row["requested_at"] + timedelta(seconds=min(limit, LONGEST_WAIT))
            connection.execute(evaluations.update().where(evaluations.c.id == row["id"]).values(begin_by=begin_by))
    for name in REPLACED:
        op.drop_index(name, table_name="evaluations")
    for name, columns in ADDED.items():
        op.create_index(name, "evaluations", columns)
    op.drop_index("ix_scores_label_protocol_id", table_name="scores")
    for name, columns in OF_SCORES.items():
        op.create_index(name, "scores", columns)


def downgrade() -> None:
    for name in OF_SCORES:
        op.drop_index(name, table_name="scores")
    op.create_index("ix_scores_label_protocol_id", "scores", ["label", "protocol_id"])
    for name in ADDED:
        op.drop_index(name, table_name="evaluations")
    for name, columns in REPLACED.items():
        op.create_index(name, "evaluations", columns)
    op.drop_column("evaluations", "begin_by")
