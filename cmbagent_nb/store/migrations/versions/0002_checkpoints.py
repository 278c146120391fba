"""Checkpoints: places in the journals of runs."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ID = sa.String(36).with_variant(sa.String(36, collation="C"), "postgresql")
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "checkpoints",
        sa.Column("id", ID, nullable=False),
        sa.Column("run_id", ID, nullable=False),
        sa.Column("session_id", ID, nullable=True),
        sa.Column("node_id", TEXT, nullable=True),
        sa.Column("checkpoint_type", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=True),
        sa.Column("journal_position", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("meta", TEXT, nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["workflow_runs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_checkpoints_run_id_journal_position", "checkpoints", ["run_id", "journal_position"])


def downgrade() -> None:
    op.drop_table("checkpoints")
