"""what tokens use of their quotas"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("evaluations", sa.Column("token", sa.String(length=200), nullable=True))
    op.create_index("ix_evaluations_token_status", "evaluations", ["token", "status"])
    op.create_table(
        "quota_use",
        sa.Column("token", sa.String(length=200), nullable=False),
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("device_seconds", sa.Double(), nullable=False),
        sa.Column("upload_bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("token", "day", name=op.f("pk_quota_use")),
    )
    op.create_table(
        "upload_use",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("token", sa.String(length=200), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=True),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_upload_use")),
    )
    op.create_index(op.f("ix_upload_use_token"), "upload_use", ["token"])


def downgrade() -> None:
    op.drop_table("upload_use")
    op.drop_table("quota_use")
    op.drop_index("ix_evaluations_token_status", table_name="evaluations")
    op.drop_column("evaluations", "token")
