"""references without unreadable files"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("references", schema=None) as batch_op:
        batch_op.add_column(sa.Column("skipped", sa.JSON(), server_default="[]", nullable=False))
        batch_op.add_column(sa.Column("heldout_skipped", sa.JSON(), server_default="[]", nullable=False))


def downgrade() -> None:
    with op.batch_alter_table("references", schema=None) as batch_op:
        batch_op.drop_column("heldout_skipped")
        batch_op.drop_column("skipped")
