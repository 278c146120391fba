"""Adds the sums of an ended run to its row: a list of runs adds up the costs of active runs only."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

COLUMNS = (
    ("total_calls", sa.Integer()),
    ("total_tokens", sa.Integer()),
    ("total_cost_usd", sa.Float()),
    ("total_unknown_costs", sa.Integer()),
)
SUMS = ("COUNT(*)", "COALESCE(SUM(total_tokens), 0)", "COALESCE(SUM(cost_usd), 0.0)", "COUNT(*) - COUNT(cost_usd)")


def upgrade() -> None:
    for name, kind in COLUMNS:
        op.add_column("workflow_runs", sa.Column(name, kind, nullable=True))
    sets = ", ".join(
        f"{name} = (SELECT {total} FROM cost_records c WHERE c.run_id = workflow_runs.id)"
        for (name, _), total in zip(COLUMNS, SUMS, strict=True)
    )
    op.execute(f"UPDATE workflow_runs SET {sets} WHERE status IN ('completed', 'failed', 'cancelled', 'interrupted')")


def downgrade() -> None:
    for name, _ in reversed(COLUMNS):
        op.drop_column("workflow_runs", name)
