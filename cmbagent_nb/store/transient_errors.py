"""Classifies database errors: transient ones, about the database or its disk, and those of the statement itself.

| error | passes |
|---|---|
| SQLite: locked, full, not readable or writable just now | yes |
| PostgreSQL: no connection, shutting down, full, a lock or deadlock, a server that only reads just now | yes |
| all else: a row that is refused, a statement that is wrong | no |
"""

from __future__ import annotations

import errno
import sqlite3

from cmbagent_nb.store.columns import TABLES

#: Names of SQLite's errors that go away by waiting or by the user's doing.
_SQLITE = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY")

#: Names of SQLite's errors about a file that holds something else than what was written.
_DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_IOERR_SHORT_READ", "SQLITE_FORMAT")

#: What its messages say where the name of the error is a general one.
_DAMAGED_TEXTS = ("Could not decode to UTF-8", "malformed", "database disk image")
_NO_TABLE = "no such table: "

#: Classes of SQLSTATE that do: connection, transaction to be repeated, resources, operator.
_CLASSES = frozenset({"08", "40", "53", "57"})

#: Single states that do: a lock not available, a server that only reads, a session ended while idle.
_STATES = frozenset({"55P03", "25006", "25P03"})

#: What the system says of a disk without space, or of a user who may have no more of it.
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class UnclearError(Exception):
    """The server does not know yet how a transaction ended whose connection broke."""


def is_damage(error: BaseException) -> bool:
    """Tell whether an error is about an SQLite file whose content is damaged.

    >>> is_damage(sqlite3.OperationalError("no such table: messages")), is_damage(ValueError("no such table"))
    (True, False)
    """
    original = getattr(error, "orig", None) or error
    if not isinstance(original, sqlite3.Error):
        return False
    name, text = getattr(original, "sqlite_errorname", None) or "", str(original)
    if name.startswith(_DAMAGED):
        return True
    if text.startswith(_NO_TABLE):  # one of ours: the schema does not hold it any more
        return text.removeprefix(_NO_TABLE).rpartition(".")[2] in {*TABLES, "alembic_version"}
    return name in ("", "SQLITE_ERROR") and text.startswith(_DAMAGED_TEXTS)


def is_transient(error: BaseException) -> bool:
    """Tell whether an error is about the database and not about the rows."""
    original = getattr(error, "orig", None) or error
    name = getattr(original, "sqlite_errorname", None)
    if name is not None:
        return str(name).startswith(_SQLITE) and not is_damage(error)
    if isinstance(error, UnclearError) or getattr(error, "connection_invalidated", False):
        return True
    kinds = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(original).__mro__}
    state = getattr(original, "sqlstate", None)
    if state is not None:
        return state[:2] in _CLASSES or state in _STATES
    return bool(kinds & {"psycopg.OperationalError", "psycopg.InterfaceError"})


def is_full(error: BaseException | None) -> bool:
    """Tell whether an error, or what it came from, is about a disk without space.

    >>> is_full(OSError(errno.ENOSPC, "No space left on device")), is_full(OSError(errno.EACCES, "Permission denied"))
    (True, False)
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        error = error.__cause__
    return False


def reason(error: BaseException) -> str:
    """Return the first line of what a driver says."""
    lines = str(getattr(error, "orig", None) or error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
