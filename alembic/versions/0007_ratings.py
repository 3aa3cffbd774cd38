"""ratings"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "ratings",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("suite", sa.String(length=200), nullable=False),
        sa.Column("left_id", sa.Integer(), nullable=False),
        sa.Column("right_id", sa.Integer(), nullable=False),
        sa.Column("sample", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.String(length=10), nullable=False),
        sa.Column("rater", sa.String(length=200), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("outcome IN ('left', 'right', 'tie')", name=op.f("ck_ratings_outcome")),
        sa.ForeignKeyConstraint(["left_id"], ["evaluations.id"], name=op.f("fk_ratings_left_id")),
        sa.ForeignKeyConstraint(["right_id"], ["evaluations.id"], name=op.f("fk_ratings_right_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ratings")),
    )
    op.create_index(op.f("ix_ratings_suite"), "ratings", ["suite"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_ratings_suite"), table_name="ratings")
    op.drop_table("ratings")
