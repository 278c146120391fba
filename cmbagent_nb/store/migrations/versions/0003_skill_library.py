"""The library of skills: artifacts, matches, trials of versions, and places that skills come from."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

ID = sa.String(36).with_variant(sa.String(36, collation="C"), "postgresql")
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    for name, kind in (("session_id", ID), ("mode", TEXT), ("trial_id", ID), ("sweep_id", ID)):
        op.add_column("skill_executions", sa.Column(name, kind, nullable=True))
    op.create_index("ix_skill_executions_sweep_id", "skill_executions", ["sweep_id"])
    op.create_table(
        "skill_artifacts",
        sa.Column("id", ID, nullable=False),
        sa.Column("skill_id", ID, nullable=False),
        sa.Column("artifact_type", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("path", TEXT, nullable=True),
        sa.Column("content", TEXT, nullable=True),
        sa.Column("language", TEXT, nullable=True),
        sa.Column("is_template", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("template_variables", TEXT, nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True),
        sa.Column("checksum", TEXT, nullable=True),
        sa.ForeignKeyConstraint(["skill_id"], ["skills.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_skill_artifacts_skill_id", "skill_artifacts", ["skill_id"])
    op.create_table(
        "skill_matches",
        sa.Column("id", ID, nullable=False),
        sa.Column("run_id", ID, nullable=True),
        sa.Column("session_id", ID, nullable=True),
        sa.Column("skill_id", ID, nullable=True),
        sa.Column("task_description", TEXT, nullable=True),
        sa.Column("mode", TEXT, nullable=True),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("score", sa.Float(), nullable=True),
        sa.Column("candidates", TEXT, nullable=True),
        sa.Column("duration_ms", sa.Float(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("meta", TEXT, nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["workflow_runs.id"], ondelete="SET NULL"),
        sa.ForeignKeyConstraint(["skill_id"], ["skills.id"], ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_skill_matches_run_id", "skill_matches", ["run_id"])
    op.create_index("ix_skill_matches_skill_id", "skill_matches", ["skill_id"])
    op.create_table(
        "skill_trials",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("skill_id", ID, nullable=False),
        sa.Column("other_skill_id", ID, nullable=False),
        sa.Column("share", sa.Float(), nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("arguments", TEXT, nullable=True),
        sa.Column("result", TEXT, nullable=True),
        sa.Column("started_at", sa.Float(), nullable=False),
        sa.Column("ended_at", sa.Float(), nullable=True),
        sa.Column("meta", TEXT, nullable=True),
        sa.ForeignKeyConstraint(["skill_id"], ["skills.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["other_skill_id"], ["skills.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_skill_trials_skill_id", "skill_trials", ["skill_id"])
    op.create_index("ix_skill_trials_other_skill_id", "skill_trials", ["other_skill_id"])
    op.create_table(
        "skill_sources",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("location", TEXT, nullable=False),
        sa.Column("trusted", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("synced_at", sa.Float(), nullable=True),
        sa.Column("meta", TEXT, nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name", name="uq_skill_sources_name"),
    )


def downgrade() -> None:
    for table in ("skill_sources", "skill_trials", "skill_matches", "skill_artifacts"):
        op.drop_table(table)
    op.drop_index("ix_skill_executions_sweep_id", "skill_executions")
    for name in ("sweep_id", "trial_id", "mode", "session_id"):
        op.drop_column("skill_executions", name)
