"""what decisions spent of the level"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

ACCOUNT = ("candidate", "configuration", "protocol", "baseline")


def upgrade() -> None:
    op.create_table(
        "gate_spending",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("gate_id", sa.Integer(), nullable=False),
        sa.Column("candidate", sa.String(length=64), nullable=False),
        sa.Column("configuration", sa.String(length=64), nullable=False),
        sa.Column("protocol", sa.String(length=32), nullable=False),
        sa.Column("baseline", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("share", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["gate_id"], ["gates.id"], name=op.f("fk_gate_spending_gate_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gate_spending")),
        sa.UniqueConstraint(*ACCOUNT, "number", name=op.f(f"uq_gate_spending_{'_'.join(ACCOUNT)}_number")),
    )
    op.create_index(op.f("ix_gate_spending_gate_id"), "gate_spending", ["gate_id"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_gate_spending_gate_id"), table_name="gate_spending")
    op.drop_table("gate_spending")
