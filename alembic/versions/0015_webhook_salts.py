"""webhooks whose secret is computed from a salt; those that keep a secret keep it"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("webhooks") as batch_op:
        batch_op.alter_column("secret", existing_type=sa.String(length=100), nullable=True)
        batch_op.add_column(sa.Column("salt", sa.String(length=64), nullable=True))
        batch_op.add_column(sa.Column("key", sa.String(length=16), nullable=True))


def downgrade() -> None:
    op.execute("DELETE FROM deliveries WHERE webhook_id IN (SELECT id FROM webhooks WHERE secret IS NULL)")
    op.execute("DELETE FROM webhooks WHERE secret IS NULL")  # nothing of before could sign for them
    with op.batch_alter_table("webhooks") as batch_op:
        batch_op.drop_column("key")
        batch_op.drop_column("salt")
        batch_op.alter_column("secret", existing_type=sa.String(length=100), nullable=False)
