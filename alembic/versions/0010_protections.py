"""protected aliases, and who promoted"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "protections",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("alias", sa.String(length=200), nullable=False),
        sa.Column("suite", sa.String(length=200), nullable=False),
        sa.Column("suite_digest", sa.String(length=64), nullable=False),
        sa.Column("policy_digest", sa.String(length=64), nullable=False),
        sa.Column("policy", sa.JSON(), nullable=False),
        sa.Column("by", sa.String(length=200), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_by", sa.String(length=200), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_protections")),
    )
    in_force = sa.text("ended_at IS NULL")
    op.create_index(
        "uq_protections_alias",
        "protections",
        ["alias"],
        unique=True,
        sqlite_where=in_force,
        postgresql_where=in_force,
    )
    with op.batch_alter_table("promotions") as batch_op:
        batch_op.add_column(sa.Column("kind", sa.String(length=20), nullable=False, server_default="set"))
        batch_op.add_column(sa.Column("by", sa.String(length=200), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("reason", sa.String(length=500), nullable=False, server_default=""))
        batch_op.create_check_constraint(
            batch_op.f("ck_promotions_kind"), "kind IN ('first', 'gate', 'set', 'rollback')"
        )
    op.execute("UPDATE promotions SET kind = 'gate' WHERE gate_id IS NOT NULL")
    op.execute("UPDATE promotions SET kind = 'first' WHERE id IN (SELECT min(id) FROM promotions GROUP BY alias)")


def downgrade() -> None:
    with op.batch_alter_table("promotions") as batch_op:
        batch_op.drop_constraint(batch_op.f("ck_promotions_kind"), type_="check")
        batch_op.drop_column("reason")
        batch_op.drop_column("by")
        batch_op.drop_column("kind")
    op.drop_index("uq_protections_alias", table_name="protections")
    op.drop_table("protections")
