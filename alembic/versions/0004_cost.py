"""what evaluations cost"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("evaluations", schema=None, recreate="never") as batch_op:
        batch_op.add_column(sa.Column("device_seconds", sa.Double(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("peak_memory", sa.BigInteger(), nullable=True))
        batch_op.add_column(sa.Column("energy", sa.Double(), nullable=True))
    op.execute(
        "UPDATE evaluations SET device_seconds ="
        " (SELECT coalesce(sum(seconds), 0) FROM shards WHERE shards.evaluation_id = evaluations.id)"
    )


def downgrade() -> None:
    with op.batch_alter_table("evaluations", schema=None) as batch_op:
        batch_op.drop_column("energy")
        batch_op.drop_column("peak_memory")
        batch_op.drop_column("device_seconds")
