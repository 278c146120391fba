"""Thirty kinds of damage to databases and journals: each is found, mended run by run or said to be lost.

None ends in an internal error or waits for ever, and what is damaged is kept beside its place.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cmbagent_nb.admin import mend_workspace
from cmbagent_nb.doctor import Check, _database, _records
from cmbagent_nb.errors import CMBAgentError
from cmbagent_nb.workspace import Workspace
from tests.openai_server import OpenAIServer
from tests.team import code

NAMES = ("one", "two")

#: A workspace with two runs, made in a process of its own, so that nothing of it is open here.
MAKE = """
import sys
from cmbagent_nb.workspace import Workspace
workspace = Workspace(sys.argv[1])
for name in ("one", "two"):
    run = workspace.one_shot("Print one, and say so at some length. " * 20, model="openai:m", name=name).wait(120)
    assert run.status == "completed", run.error
    run.checkpoint("kept")
workspace.close()
"""


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("original")
    home = place / "home"
    with OpenAIServer(lambda request: code("print(1)\nopen('data/one.txt', 'w').write('1')")) as server:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("CMBAGENT_")}
        environ |= {
            "CMBAGENT_BASE_URL": server.url,
            "CMBAGENT_WORKSPACES_FILE": str(place / "workspaces.json"),
            "CMBAGENT_STARTER_SKILLS": "off",
        }
        subprocess.run([sys.executable, "-c", MAKE, str(home)], env=environ, check=True, timeout=300)
    return home


@pytest.fixture
def home(original: Path, tmp_path: Path) -> Path:
    place = tmp_path / "home"
    shutil.copytree(original, place)
    return place


def tables(home: Path) -> dict[str, dict[Any, dict[str, Any]]]:
    """Return all rows of the runs in a database, but for what says which process has a run."""
    found: dict[str, dict[Any, dict[str, Any]]] = {}
    with closing(sqlite3.connect(f"file:{home / 'cmbagent.db'}?mode=ro", uri=True)) as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for name in sorted({*names} - {"leases", "sessions", "sqlite_sequence", "alembic_version"}):
            cursor = connection.execute(f"SELECT * FROM {name}")
            columns = [item[0] for item in cursor.description]
            found[name] = {row[0]: dict(zip(columns, row, strict=True)) for row in cursor}
    return found


# ---- kinds of damage


def page_of(home: Path, name: str) -> int:
    with closing(sqlite3.connect(home / "cmbagent.db")) as connection:
        found = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchone()
        return int(found[0])


def write(path: Path, place: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        file.write(data)


def spoiled_page(name: str) -> Callable[[Path], None]:
    def spoil(home: Path) -> None:
        write(home / "cmbagent.db", (page_of(home, name) - 1) * 4096, b"\xa5" * 4096)

    return spoil


def flipped_schema(home: Path) -> None:
    data = (home / "cmbagent.db").read_bytes()
    write(home / "cmbagent.db", data.index(b"CREATE TABLE", 200), b"CRXATE")


def flipped_text(home: Path) -> None:
    """A byte of a text is no UTF-8 any more; SQLite's own check does not see it."""
    with closing(sqlite3.connect(home / "cmbagent.db", isolation_level=None)) as connection:
        connection.execute("UPDATE messages SET content = CAST(x'41ff42' AS TEXT) WHERE id = 1")


def changed_number(home: Path) -> None:
    with closing(sqlite3.connect(home / "cmbagent.db", isolation_level=None)) as connection:
        connection.execute("UPDATE cost_records SET total_tokens = total_tokens + 4096 WHERE id = 1")


def broken_json(home: Path) -> None:
    with closing(sqlite3.connect(home / "cmbagent.db", isolation_level=None)) as connection:
        connection.execute("UPDATE workflow_runs SET meta = '{\"request' WHERE name = 'one'")


def lost_rows(home: Path) -> None:
    with closing(sqlite3.connect(home / "cmbagent.db", isolation_level=None)) as connection:
        connection.execute(
            "DELETE FROM execution_events WHERE run_id = (SELECT id FROM workflow_runs WHERE name='two')"
        )


def dangling(home: Path) -> None:
    with closing(sqlite3.connect(home / "cmbagent.db", isolation_level=None)) as connection:
        connection.execute("DELETE FROM workflow_runs WHERE name = 'one'")


def given_away(home: Path) -> None:
    """Numbers of one run's rows are those of another's, as in a database of another workspace."""
    with closing(sqlite3.connect(home / "cmbagent.db", isolation_level=None)) as connection:
        for table in ("messages", "cost_records"):
            connection.execute(f"UPDATE {table} SET run_id = (SELECT id FROM workflow_runs WHERE name = 'two')")


def other_types(home: Path) -> None:
    with closing(sqlite3.connect(home / "cmbagent.db", isolation_level=None)) as connection:
        connection.execute("UPDATE messages SET created_at = 'yesterday'")
        connection.execute("UPDATE workflow_runs SET meta = x'00ff'")


def moved_run(place: str | None) -> Callable[[Path], None]:
    def move(home: Path) -> None:
        with closing(sqlite3.connect(home / "cmbagent.db", isolation_level=None)) as connection:
            connection.execute("UPDATE workflow_runs SET work_dir = ? WHERE name = 'one'", (place,))

    return move


def void_line(data: bytes) -> bytes:
    """A line that can be read and tells of a table that is none of a run's."""
    return data.replace(b'{"rows":[{"table":"', b'{"rows":[{"table":"x', 1)


def dropped_table(home: Path) -> None:
    with closing(sqlite3.connect(home / "cmbagent.db", isolation_level=None)) as connection:
        connection.execute("DROP TABLE messages")


def truncated(share: float) -> Callable[[Path], None]:
    def cut(home: Path) -> None:
        path = home / "cmbagent.db"
        os.truncate(path, int(path.stat().st_size * share))

    return cut


def replaced(path: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    def replace(home: Path) -> None:
        place = home / path
        place.unlink(missing_ok=True)
        make(place)

    return replace


def edited(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def edit(home: Path) -> None:
        path = home / JOURNAL
        path.write_bytes(change(path.read_bytes()))

    return edit


def both(home: Path) -> None:
    for path in home.glob("cmbagent.db*"):
        path.unlink()
    (home / JOURNAL).write_bytes(b"\x00" * 10_000)


def lines(data: bytes) -> list[bytes]:
    return data.splitlines(keepends=True)


DATABASE, JOURNAL = "cmbagent.db", "runs/one/journal.jsonl"

#: Damage that leaves everything to be rebuilt.
MENDED: dict[str, Callable[[Path], None]] = {
    "schema_page": flipped_schema,
    "page_of_messages": spoiled_page("messages"),
    "page_of_events": spoiled_page("execution_events"),
    "page_of_runs": spoiled_page("workflow_runs"),
    "page_of_an_index": spoiled_page("ix_messages_run_id_id"),
    "page_of_sessions": spoiled_page("sessions"),
    "garbage_header": lambda home: write(home / DATABASE, 0, os.urandom(100)),
    "zero_header": lambda home: write(home / DATABASE, 0, b"\x00" * 100),
    "cut_to_a_half": truncated(0.5),
    "cut_within_a_page": truncated(0.87),
    "cut_to_nothing": truncated(0.0),
    "lost_database": lambda home: (home / DATABASE).unlink(),
    "database_is_a_folder": replaced(DATABASE, Path.mkdir),
    "database_is_a_device": replaced(DATABASE, lambda path: path.symlink_to("/dev/zero")),
    "database_is_a_pipe": replaced(DATABASE, os.mkfifo),
    "database_is_a_dangling_link": replaced(DATABASE, lambda path: path.symlink_to("nowhere")),
    "log_is_a_folder": replaced("cmbagent.db-wal", Path.mkdir),
    "text_is_no_text": flipped_text,
    "number_changed": changed_number,
    "json_cut": broken_json,
    "rows_lost": lost_rows,
    "run_lost": dangling,
    "table_lost": dropped_table,
    "values_of_other_types": other_types,
    "folder_unsaid": moved_run(None),
    "folder_elsewhere": moved_run("../gone"),
    "journal_lost": lambda home: (home / JOURNAL).unlink(),
    "journal_empty": edited(lambda data: b""),
    "journal_wrong_version": edited(lambda data: data.replace(b'{"v":1,', b'{"v":"one",', 3)),
    "journal_newer_version": edited(lambda data: data + b'{"v":99,"seq":900,"at":1.0,"kind":"note","data":{}}\n'),
    "journal_no_text": edited(lambda data: data[:2000] + b"\xff\xfe" + data[2002:]),
    "journal_zeros": edited(lambda data: data[:1000] + b"\x00" * 5000 + data[6000:]),
    "journal_cut_line": edited(lambda data: data[:-30]),
    "journal_huge_line": edited(lambda data: data + b"x" * (130 << 20) + b"\n"),
    "journal_without_lines": edited(lambda data: b"".join(lines(data)[::2])),
    "journal_without_other_lines": edited(lambda data: b"".join(lines(data)[1::2])),
    "journal_without_rows": edited(lambda data: b"".join(line for line in lines(data) if b'"kind":"rows"' not in line)),
    "journal_odd_values": edited(lambda data: data + b'[]\n7\n{"v":1,"seq":null,"at":"x","kind":3,"data":[]}\n'),
    "journal_nested": edited(lambda data: data + b"[" * 100_000 + b"\n"),
    "journal_line_of_no_row": edited(void_line),
    "journal_reversed": edited(lambda data: b"".join(reversed(lines(data)))),
    "journal_is_a_folder": replaced(JOURNAL, Path.mkdir),
    "journal_is_a_device": replaced(JOURNAL, lambda path: path.symlink_to("/dev/zero")),
    "journal_is_a_pipe": replaced(JOURNAL, os.mkfifo),
    "journal_of_another_run": lambda home: (home / JOURNAL).write_bytes((home / "runs/two/journal.jsonl").read_bytes()),
}

#: Damage after which a run cannot be looked at as it stood before: what it had come to is all there.
WITHOUT_ITS_PAST = {
    "journal_lost", "journal_empty", "journal_wrong_version", "journal_no_text", "journal_zeros",
    "journal_without_lines", "journal_without_other_lines", "journal_without_rows",
    "journal_is_a_folder", "journal_is_a_device", "journal_is_a_pipe",
    "journal_of_another_run", "journal_reversed",
}  # fmt: skip

#: Damage after which a part is lost, with what is lost.
LOST: dict[str, tuple[Callable[[Path], None], set[str]]] = {
    "database_and_a_journal": (both, {"one"}),
    "a_run_s_folder": (lambda home: shutil.rmtree(home / "runs/one"), set()),
}


def checks(home: Path) -> list[Check]:
    return [_database(home, ""), _records(home, "")]


def refused_or_done(work: Callable[[], object]) -> None:
    try:
        work()
    except CMBAgentError as error:
        assert "\n" not in str(error)
        assert error.next_step


@pytest.fixture
def limited() -> Iterator[None]:
    """End the process where something waits for ever: a reader of a device cannot be interrupted in another way."""
    import faulthandler

    faulthandler.dump_traceback_later(240, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.mark.usefixtures("limited")
@pytest.mark.parametrize("kind", MENDED)
def test_damage_is_found_and_mended(kind: str, original: Path, home: Path) -> None:
    before = tables(original)
    assert all(check.status == "ok" for check in checks(home)), checks(home)
    MENDED[kind](home)
    found = checks(home)
    assert any(check.status == "problem" for check in found), found
    assert all("Error" not in check.detail.split("(")[0] for check in found)
    workspace = Workspace(home)
    refused_or_done(workspace.runs)
    refused_or_done(lambda: workspace.run("two").events())
    refused_or_done(lambda: workspace.run("one").messages())
    if kind == "journal_of_another_run":
        with pytest.raises(CMBAgentError, match="is one of another run"):
            workspace.run("one").state_at("kept")
    workspace.close()
    done = mend_workspace(home)
    assert str(done)
    assert not list(home.glob("faults.jsonl"))
    after = tables(home)
    for table, rows in before.items():
        assert after[table] == rows, table
    assert all(check.status == "ok" for check in checks(home)), (checks(home), str(done))
    workspace = Workspace(home)
    assert sorted(workspace.runs()["name"]) == sorted(NAMES)
    run = workspace.run("one")
    if kind in WITHOUT_ITS_PAST:
        with pytest.raises(CMBAgentError, match="has lost lines"):
            run.state_at("kept")
    else:
        assert run.state_at("kept").status == "completed"
    run.checkpoint("mended")
    assert run.state_at("mended").status == "completed"
    workspace.close()


@pytest.mark.usefixtures("limited")
@pytest.mark.parametrize("kind", LOST)
def test_what_is_lost_is_said(kind: str, original: Path, home: Path) -> None:
    damage, lost = LOST[kind]
    damage(home)
    assert any(check.status != "ok" for check in checks(home))
    done = mend_workspace(home)
    said = {run.name: str(run) for run in done.runs}
    assert "one" in said
    assert "lost" in said["one"] or "gone" in said["one"]
    workspace = Workspace(home)
    assert set(workspace.runs()["name"]) == set(NAMES) - lost
    workspace.close()
    assert (
        tables(home)["messages"].items()
        >= {
            key: row
            for key, row in tables(original)["messages"].items()
            if "two" in NAMES and row["run_id"] not in lost_ids(original, {"one"})
        }.items()
    )


def test_a_second_repair_finds_nothing_to_do(home: Path) -> None:
    """Also where rows of a run got new numbers, since others have theirs: none is doubled."""
    given_away(home)
    mend_workspace(home)
    mended = tables(home)
    run = next(key for key, row in mended["workflow_runs"].items() if row["name"] == "one")
    assert sum(row["run_id"] == run for row in mended["cost_records"].values()) == 1
    assert "nothing to do" in str(mend_workspace(home))
    assert tables(home) == mended
    assert all(check.status == "ok" for check in checks(home)), checks(home)


def lost_ids(home: Path, names: set[str]) -> set[str]:
    return {key for key, row in tables(home)["workflow_runs"].items() if row["name"] in names}


def test_what_is_damaged_is_kept(home: Path) -> None:
    """The database and the journal lie beside their places, byte by byte."""
    write(home / DATABASE, 0, b"\xa5" * 4096)
    (home / JOURNAL).write_bytes((home / JOURNAL).read_bytes() + b"torn")
    database, journal = (home / DATABASE).read_bytes(), (home / JOURNAL).read_bytes()
    done = mend_workspace(home)
    assert done.aside is not None
    assert done.aside.read_bytes() == database
    assert str(done.aside) in str(done)
    (aside,) = (home / JOURNAL).parent.glob("journal.jsonl.damaged-*")
    assert aside.read_bytes() == journal
    assert aside.name in str(done)
    assert mend_workspace(home).aside is None


def test_a_living_process_takes_the_mended_database(home: Path) -> None:
    """Its connections are to the file that was moved aside: it notices, and reads and writes the new one."""
    workspace = Workspace(home)
    assert len(workspace.runs()) == 2
    script = "import sys; from cmbagent_nb.admin import mend_workspace; mend_workspace(sys.argv[1])"
    for path in home.glob("cmbagent.db*"):
        path.rename(path.with_name(f"aside-{path.name}"))
    with pytest.raises(CMBAgentError, match="not there any more"):
        workspace.run("one")
    subprocess.run([sys.executable, "-c", script, str(home)], check=True, timeout=120)
    assert sorted(workspace.runs()["name"]) == sorted(NAMES)
    workspace.run("one").checkpoint("later")
    assert workspace.run("one").state_at("later").status == "completed"
    assert workspace._core.db.data_version() >= 0
    workspace.close()
    assert any(row["name"] == "later" for row in tables(home)["checkpoints"].values())
