"""who did what"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

INDEXED = ("at", "actor", "subject")


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor_kind", sa.String(length=10), nullable=False),
        sa.Column("actor", sa.String(length=200), nullable=False),
        sa.Column("token_id", sa.Integer(), nullable=True),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("request", sa.String(length=64), nullable=False),
        sa.Column("action", sa.String(length=50), nullable=False),
        sa.Column("subject", sa.String(length=300), nullable=False),
        sa.Column("outcome", sa.String(length=20), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.CheckConstraint("actor_kind IN ('token', 'page', 'user', 'worker')", name=op.f("ck_audit_actor_kind")),
        sa.CheckConstraint("outcome IN ('done', 'unchanged', 'refused')", name=op.f("ck_audit_outcome")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    for column in INDEXED:
        op.create_index(op.f(f"ix_audit_{column}"), "audit", [column], unique=False)
    for table in ("evaluations", "gates"):
        op.add_column(table, sa.Column("by", sa.String(length=200), nullable=False, server_default=""))


def downgrade() -> None:
    for table in ("gates", "evaluations"):
        with op.batch_alter_table(table) as batch_op:
            batch_op.drop_column("by")
    for column in INDEXED:
        op.drop_index(op.f(f"ix_audit_{column}"), table_name="audit")
    op.drop_table("audit")
