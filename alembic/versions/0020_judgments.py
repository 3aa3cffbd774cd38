"""judgments of judges, beside the ratings of people"""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "judgments",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("suite", sa.String(length=200), nullable=False),
        sa.Column("first_id", sa.Integer(), nullable=False),
        sa.Column("second_id", sa.Integer(), nullable=False),
        sa.Column("judge", sa.String(length=200), nullable=False),
        sa.Column("protocol", sa.String(length=64), nullable=False),
        sa.Column("samples", sa.JSON(), nullable=False),
        sa.Column("points", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["first_id"], ["evaluations.id"], name=op.f("fk_judgments_first_id")),
        sa.ForeignKeyConstraint(["second_id"], ["evaluations.id"], name=op.f("fk_judgments_second_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_judgments")),
        sa.UniqueConstraint("first_id", "second_id", "protocol", name=op.f("uq_judgments_first_id_second_id_protocol")),
    )
    op.create_index(op.f("ix_judgments_suite"), "judgments", ["suite"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_judgments_suite"), table_name="judgments")
    op.drop_table("judgments")
