"""what clients asked for, and what operators alone read of a failure"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

UPLOADED = "%/uploads/" + "_" * 64 + "/%"


def upgrade() -> None:
    with op.batch_alter_table("evaluations", schema=None, recreate="never") as batch_op:
        batch_op.add_column(sa.Column("restricted", sa.Boolean(), nullable=False, server_default=sa.false()))
        batch_op.add_column(sa.Column("detail", sa.String(), nullable=True))
    # Nobody wrote down who asked. An upload was a client's; an endpoint that may still be tried again could be one too,
    # and an operator who asks for it again lifts this.
    evaluations = sa.table(
        "evaluations", *(sa.column(name) for name in ("checkpoint_id", "status")), sa.column("restricted", sa.Boolean())
    )
    checkpoints = sa.table("checkpoints", *(sa.column(name) for name in ("id", "path", "generator")))
    op.execute(
        evaluations.update()
        .where(
            evaluations.c.status.in_(["queued", "running", "failed", "cancelled"]),
            evaluations.c.checkpoint_id.in_(
                sa.select(checkpoints.c.id).where(
                    sa.or_(checkpoints.c.path.like(UPLOADED), checkpoints.c.generator == "openai-compatible")
                )
            ),
        )
        .values(restricted=sa.true())
    )


def downgrade() -> None:
    with op.batch_alter_table("evaluations", schema=None) as batch_op:
        batch_op.drop_column("detail")
        batch_op.drop_column("restricted")
