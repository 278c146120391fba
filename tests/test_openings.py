"""Processes that open a workspace at one instant: a new one, and one of an older version."""

from __future__ import annotations

import multiprocessing
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cmbagent_nb.store.database import VERSIONS, Database

#: What each process loads before it is forked from the server.
LOADED = ["cmbagent_nb.store.migrate", "cmbagent_nb.store.tables", "alembic.command"]


def opens(homes: list[str], ready: Any, go: Any, told: Any) -> None:
    for home, gate in zip(homes, go, strict=True):
        ready.release()
        gate.wait()
        try:
            Database.open(Path(home)).close()
        except Exception as error:
            told.put(f"{type(error).__name__}: {error}")
        else:
            told.put("")


def together(homes: list[Path], processes: int) -> list[str]:
    """Open each workspace in so many processes at one instant; return what went wrong."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LOADED)
    ready, told = context.Semaphore(0), context.Queue()
    go = [context.Event() for _ in homes]
    names = [str(home) for home in homes]
    started = [context.Process(target=opens, args=(names, ready, go, told)) for _ in range(processes)]
    for process in started:
        process.start()
    failures = []
    for gate in go:
        for _ in started:
            assert ready.acquire(timeout=120)
        gate.set()
        failures += [text for _ in started if (text := told.get(timeout=120))]
    for process in started:
        process.join(60)
    return failures


def older(home: Path) -> Path:
    from cmbagent_nb.store.migrate import migrate

    db = Database.open(home)
    migrate(db, "0001")
    db.close()
    return home


@pytest.mark.parametrize("kind", ["new", "older"])
@pytest.mark.parametrize(("workspaces", "processes"), [(3, 10), pytest.param(50, 20, marks=pytest.mark.full)])
def test_openings_at_one_instant(tmp_path: Path, kind: str, workspaces: int, processes: int) -> None:
    """None finds the database locked; the schema is made once and is whole."""
    homes = [tmp_path / f"home{number}" for number in range(workspaces)]
    if kind == "older":
        homes = [older(home) for home in homes]
    assert together(homes, processes) == []
    for home in homes:
        with closing(sqlite3.connect(home / "cmbagent.db")) as connection:
            assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(VERSIONS[-1],)]
            assert connection.execute("PRAGMA quick_check").fetchall() == [("ok",)]
        assert not list(home.glob(".cmbagent.db*"))
