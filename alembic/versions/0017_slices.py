"""the score that a slice belongs to"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("scores", sa.Column("slice_of", sa.String(length=100), nullable=True))


def downgrade() -> None:
    scores = sa.table("scores", sa.column("slice_of"))
    op.execute(scores.delete().where(scores.c.slice_of.is_not(None)))
    op.drop_column("scores", "slice_of")
