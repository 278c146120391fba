"""Makes ids that sort by time, and their short forms.

>>> first, second = new_id(), new_id()
>>> first < second, len(first), len(short(first))
(True, 36, 8)
"""

from __future__ import annotations

import uuid_utils


def new_id() -> str:
    """Make a new id: a UUIDv7 as text, so that ids sort by the time they were made."""
    return str(uuid_utils.uuid7())


def short(identifier: str) -> str:
    """Return the form of an id that is shown to people: its last 8 characters."""
    return identifier[-8:]
