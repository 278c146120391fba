"""The doctor: what it finds, and that looking changes nothing."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from cmbagent_nb.admin import mend_workspace
from cmbagent_nb.cli import main
from cmbagent_nb.doctor import Check, Report, examine, limits, requirements
from cmbagent_nb.errors import StoreError
from cmbagent_nb.store.database import VERSIONS, Database
from cmbagent_nb.store.migrate import migrate
from cmbagent_nb.workspace import Workspace
from tests.openai_server import OpenAIServer, in_turn

HOME = "home"


def found(report: Report, name: str) -> Check:
    return next(check for check in report.checks if check.name == name)


def test_a_new_workspace_is_healthy_and_nothing_is_made(tmp_path: Path) -> None:
    report = examine(tmp_path / HOME, {})
    assert report.healthy, str(report)
    assert "made when it is first used" in found(report, "workspace").detail
    assert "made when it is first used" in found(report, "database").detail
    assert not (tmp_path / HOME).exists()


def test_without_a_model_it_says_how_to_set_one(tmp_path: Path) -> None:
    model = found(examine(tmp_path / HOME, {"OLLAMA_HOST": "127.0.0.1:9"}), "model")
    assert model.status == "note"
    assert "auto takes none: no key is set and no server answers" in model.detail
    assert "--model provider:name" in model.next_step
    assert "CMBAGENT_BASE_URL" in model.next_step


def test_a_key_is_named_and_never_shown(tmp_path: Path) -> None:
    environ = {"ANTHROPIC_API_KEY": "sk-ant-not-a-real-key-0123456789", "OLLAMA_HOST": "127.0.0.1:9"}
    report = examine(tmp_path / HOME, environ)
    assert "auto takes anthropic:" in found(report, "model").detail
    assert "ANTHROPIC_API_KEY is set" in found(report, "model").detail
    assert "sk-ant" not in str(report) + json.dumps(report.as_dict())
    assert "ANTHROPIC_API_KEY set" in found(report, "keys").detail


def test_a_server_that_answers_is_found(tmp_path: Path) -> None:
    with OpenAIServer(in_turn()) as server:
        report = examine(tmp_path / HOME, {"CMBAGENT_BASE_URL": server.url, "CMBAGENT_MODEL": "openai:test-model"})
    assert "openai:test-model: set by CMBAGENT_MODEL" in found(report, "model").detail
    assert "base_url from CMBAGENT_BASE_URL" in found(report, "settings").detail


@pytest.mark.parametrize(
    ("model", "what", "step"),
    [
        ("openai:gpt-5", "needs an API key in OPENAI_API_KEY", "Set OPENAI_API_KEY"),
        ("playbook:none-such", "no playbook 'none-such'", "There are"),
        ("hal", "'hal' is not known", "provider:name"),
    ],
)
def test_a_model_that_cannot_be_used_is_a_problem(tmp_path: Path, model: str, what: str, step: str) -> None:
    report = examine(tmp_path / HOME, {"CMBAGENT_MODEL": model})
    check = found(report, "model")
    assert check.status == "problem"
    assert what in check.detail
    assert step in check.next_step
    assert not report.healthy


def test_a_broken_config_hides_nothing_else(tmp_path: Path) -> None:
    (tmp_path / HOME).mkdir()
    (tmp_path / HOME / "config.toml").write_text("max_attempts = 'many'\n")
    report = examine(tmp_path / HOME, {})
    assert found(report, "settings").status == "problem"
    assert "config.toml sets max_attempts to 'many'" in found(report, "settings").detail
    assert {"python", "packages", "database", "model", "panel"} <= {check.name for check in report.checks}
    assert sorted(path.name for path in (tmp_path / HOME).iterdir()) == ["config.toml"]


def test_databases_old_new_and_damaged(tmp_path: Path, workspace: Workspace) -> None:
    assert workspace._core.db.rows("SELECT 1")
    assert "0 runs" in found(examine(workspace.home, {}), "database").detail
    workspace.close()
    path = workspace.home / "cmbagent.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    newer = found(examine(workspace.home, {}), "database")
    assert newer.status == "problem"
    assert "9999, which is newer" in newer.detail
    assert "Update cmbagent_nb" in newer.next_step
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (VERSIONS[-1],))
    database = Database.open(workspace.home)
    migrate(database, VERSIONS[-2])
    database.close()
    older = found(examine(workspace.home, {}), "database")
    assert older.status == "ok"
    assert f"schema {VERSIONS[-2]}, 0 runs; brought to schema {VERSIONS[-1]} when it is next used" in older.detail
    Database.open(workspace.home).close()
    assert f"schema {VERSIONS[-1]}, 0 runs" in found(examine(workspace.home, {}), "database").detail
    for old in workspace.home.glob("cmbagent.db*"):
        old.unlink()
    path.write_bytes(b"this is no database" * 100)
    damaged = found(examine(workspace.home, {}), "database")
    assert damaged.status == "problem"
    assert "Move the file away" in damaged.next_step
    path.unlink()


@pytest.mark.parametrize(
    "change",
    ["DROP TABLE alembic_version", "DELETE FROM alembic_version", "ALTER TABLE alembic_version RENAME TO gone"],
)
def test_a_database_that_does_not_say_its_schema_is_damaged_and_mended(home: Path, change: str) -> None:
    """It could not be brought to the current schema: its tables are there already."""
    with closing(sqlite3.connect(home / "cmbagent.db")) as connection, connection:
        connection.execute(change)
    check = found(examine(home, {}), "database")
    assert check.status == "problem"
    assert "it does not say its schema" in check.detail
    assert "cmbagent doctor --repair" in check.next_step
    for read_only in (False, True):
        with pytest.raises(StoreError, match="it does not say its schema") as refused:
            Database.open(home, read_only=read_only)
        assert "cmbagent doctor --repair" in refused.value.next_step
    done = mend_workspace(home)
    assert done.aside is not None
    assert done.salvaged == 1
    assert found(examine(home, {}), "database").status == "ok"
    database = Database.open(home)
    assert [row["name"] for row in database.rows("SELECT name FROM sessions")] == ["mine"]
    database.close()


@pytest.mark.parametrize("make", ["CREATE TABLE mine (id INTEGER)", "PRAGMA user_version = 7"])
def test_a_database_without_our_tables_gets_them(tmp_path: Path, make: str) -> None:
    home = tmp_path / "other"
    home.mkdir()
    with closing(sqlite3.connect(home / "cmbagent.db")) as connection, connection:
        connection.execute(make)
    check = found(examine(home, {}), "database")
    assert check.status == "ok"
    assert "no schema, 0 runs; brought to schema" in check.detail
    Database.open(home).close()
    assert f"schema {VERSIONS[-1]}, 0 runs" in found(examine(home, {}), "database").detail


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A workspace with a session and nothing else."""
    home = tmp_path / "with_a_session"
    database = Database.open(home)
    database.close()
    with closing(sqlite3.connect(home / "cmbagent.db")) as connection, connection:
        connection.execute("INSERT INTO sessions (id, name, status, created_at) VALUES ('one', 'mine', 'active', 1.0)")
    return home


def test_a_database_server_that_does_not_answer(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    environ = {"CMBAGENT_DATABASE_URL": "postgresql://me:top-secret@127.0.0.1:9/db"}
    report = examine(tmp_path / HOME, environ)
    assert found(report, "database").status == "problem"
    assert "does not answer" in found(report, "database").detail
    assert "top-secret" not in str(report)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    check = found(examine(tmp_path / "file" / HOME, {}), "workspace")
    assert check.status == "problem"
    assert "CMBAGENT_HOME" in check.next_step


def test_packages_are_those_of_the_distribution(tmp_path: Path) -> None:
    needed, optional = requirements()
    assert {"ag2", "sqlmodel", "papermill", "jupyterlab"} <= set(needed)
    assert "camb" in optional["cosmo"]
    report = examine(tmp_path / HOME, {})
    assert report.facts["packages"]["ag2"]
    assert report.facts["extras"]["openai"] is True


def test_limits_of_platforms() -> None:
    assert limits("linux") == []
    assert limits("darwin")
    assert any("Windows" in limit for limit in limits("win32"))


def test_the_verb_gives_json_and_an_exit_status(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert main(["doctor", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["workspace"] == str(tmp_path / HOME)
    assert {"version", "healthy", "model", "panel", "packages", "providers", "platform", "checks"} <= set(data)
    assert set(data["panel"]) == {"built", "enabled", "why"}
    monkeypatch.setenv("CMBAGENT_MODEL", "openai:gpt-5")
    assert main(["doctor"]) == 1
    assert "1 problem." in capsys.readouterr().out
