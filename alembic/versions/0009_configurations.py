"""checkpoints in a configuration"""

import hashlib
import json

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

checkpoints = sa.table(
    "checkpoints",
    *map(sa.column, ("id", "model_id", "step", "digest", "path", "generator", "generator_version", "configuration")),
    sa.column("options", sa.JSON()),
    sa.column("created_at", sa.DateTime(timezone=True)),
)
evaluations = sa.table("evaluations", *map(sa.column, ("id", "checkpoint_id", "status")), sa.column("spec", sa.JSON()))


def upgrade() -> None:
    with op.batch_alter_table("checkpoints", schema=None) as batch_op:
        batch_op.add_column(sa.Column("generator_version", sa.String(length=300), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("configuration", sa.String(length=64), nullable=False, server_default=""))
        batch_op.drop_constraint("uq_checkpoints_model_id_step_digest", type_="unique")
        batch_op.create_unique_constraint(
            batch_op.f("uq_checkpoints_model_id_step_digest_configuration"),
            ["model_id", "step", "digest", "configuration"],
        )
    with op.batch_alter_table("gates", schema=None) as batch_op:
        batch_op.add_column(sa.Column("checkpoint_id", sa.Integer(), nullable=True))
        batch_op.create_foreign_key(batch_op.f("fk_gates_checkpoint_id"), "checkpoints", ["checkpoint_id"], ["id"])
        batch_op.create_index(batch_op.f("ix_gates_checkpoint_id"), ["checkpoint_id"], unique=False)
    connection = op.get_bind()
    rows = connection.execute(sa.select(checkpoints).order_by(checkpoints.c.id)).mappings().all()
    asked = {}
    for run in connection.execute(sa.select(evaluations).order_by(evaluations.c.id)).mappings():
        asked.setdefault(run["checkpoint_id"], []).append(run)
    for row in rows:
        _split(connection, row, asked.get(row["id"], []))
    # A gate of before judged what its label and digest meant, which is what the row has stayed.
    connection.execute(
        sa.text(
            "UPDATE gates SET checkpoint_id = (SELECT MIN(checkpoints.id) FROM checkpoints JOIN models ON "
            "checkpoints.model_id = models.id WHERE models.name = gates.model AND checkpoints.step = gates.step AND "
            "checkpoints.digest = gates.digest)"
        )
    )


def _split(connection, row, runs) -> None:
    """One row a configuration. The row itself, to which aliases point, stays what its newest scores are of."""
    groups = {}
    for run in runs:
        spec = run["spec"]
        facts = (
            spec.get("generator", row["generator"]),
            spec.get("generator_version", ""),
            json.dumps(spec.get("options", row["options"]), sort_keys=True),
        )
        groups.setdefault(facts, []).append(run)
    newest = max(runs, key=lambda run: (run["status"] == "succeeded", run["id"]), default=None)
    if not groups:
        groups[row["generator"], "", json.dumps(row["options"], sort_keys=True)] = []
    for (generator, version, written), own in groups.items():
        options = json.loads(written)
        values = {
            "generator": generator,
            "generator_version": version,
            "options": options,
            "configuration": _digest([generator, version, options]),
        }
        if newest is None or newest in own:
            connection.execute(checkpoints.update().where(checkpoints.c.id == row["id"]).values(values))
            continue
        kept = {key: row[key] for key in ("model_id", "step", "digest", "path", "created_at")}
        connection.execute(checkpoints.insert().values(kept | values))
        new = connection.execute(
            sa.select(sa.func.max(checkpoints.c.id)).where(
                checkpoints.c.model_id == row["model_id"], checkpoints.c.configuration == values["configuration"]
            )
        ).scalar_one()
        ids = [run["id"] for run in own]
        connection.execute(evaluations.update().where(evaluations.c.id.in_(ids)).values(checkpoint_id=new))


def _digest(data) -> str:
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def downgrade() -> None:
    with op.batch_alter_table("gates", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_gates_checkpoint_id"))
        batch_op.drop_constraint(batch_op.f("fk_gates_checkpoint_id"), type_="foreignkey")
        batch_op.drop_column("checkpoint_id")
    with op.batch_alter_table("checkpoints", schema=None) as batch_op:
        batch_op.drop_constraint(batch_op.f("uq_checkpoints_model_id_step_digest_configuration"), type_="unique")
        batch_op.drop_column("configuration")
        batch_op.drop_column("generator_version")
        batch_op.create_unique_constraint("uq_checkpoints_model_id_step_digest", ["model_id", "step", "digest"])
