"""The index of subtypes holds what has one: an action under way gets its subtype when it ends, and is entered then."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

NAME = "ix_execution_events_event_type_event_subtype"
COLUMNS = ["event_type", "event_subtype"]
KNOWN = sa.text("event_subtype IS NOT NULL")


def upgrade() -> None:
    op.drop_index(NAME, "execution_events")
    op.create_index(NAME, "execution_events", COLUMNS, sqlite_where=KNOWN, postgresql_where=KNOWN)


def downgrade() -> None:
    op.drop_index(NAME, "execution_events")
    op.create_index(NAME, "execution_events", COLUMNS)
