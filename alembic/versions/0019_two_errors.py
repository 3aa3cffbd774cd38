"""skewed intervals, the error of the reference, and right values"""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

NUMBERS = ("stderr_reference", "target", "target_stderr")


def upgrade() -> None:
    op.add_column("scores", sa.Column("skewness", sa.Double(), nullable=False, server_default="0"))
    op.add_column("scores", sa.Column("reference_method", sa.String(), nullable=False, server_default=""))
    for name in NUMBERS:
        op.add_column("scores", sa.Column(name, sa.Double(), nullable=True))


def downgrade() -> None:
    for name in ("skewness", "reference_method", *NUMBERS):
        op.drop_column("scores", name)
