"""how the samples of a reference are read"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

COLUMNS = ("reading", "heldout_reading")


def upgrade() -> None:
    for name in COLUMNS:
        op.add_column("references", sa.Column(name, sa.JSON(), nullable=False, server_default=sa.text("'{}'")))


def downgrade() -> None:
    for name in COLUMNS:
        op.drop_column("references", name)
