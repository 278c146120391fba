"""A workspace that version 0.1.0 made: later versions read it, go on with it, and run its skills."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cmbagent_nb.doctor import _database, _records
from cmbagent_nb.skills.handle import Skill
from cmbagent_nb.workspace import Workspace
from tests import interfaces
from tests.openai_server import OpenAIServer
from tests.team import Team, code


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return interfaces.unpack(tmp_path / "unpacked")


@pytest.fixture
def old(home: Path) -> Iterator[Workspace]:
    workspace = Workspace(home)
    yield workspace
    workspace.close()


def total(skill: Skill, execution: object, name: str = "data/squares.json") -> float:
    folder = Path(str(execution.work_dir))  # type: ignore[attr-defined]
    return float(json.loads((folder / name).read_text())["total"])


def test_its_runs_are_read(old: Workspace) -> None:
    statuses = dict(zip(old.runs()["name"], old.runs()["status"], strict=True))
    expected = {"decided": "completed", "failed": "failed", "cancelled": "cancelled"}
    assert statuses == {**expected, "squares": "completed", "mean": "completed"}
    run = old.run("decided")
    assert len(run.messages()) > 0
    assert set(run.files()["file_path"]) >= {"data/n.json"}
    assert run.costs()["total_tokens"].sum() > 0
    assert "squares.py" in str(old.run("squares").lineage("data/squares.json"))


def test_it_is_found_whole(home: Path) -> None:
    assert [check.status for check in (_database(home, ""), _records(home, ""))] == ["ok", "ok"]


def test_a_run_is_gone_on_with(old: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """What had succeeded is kept; what failed is tried again."""
    write = "import json\njson.dump({'n': 1}, open('data/n.json', 'w'))\n"
    steps = {"One": [code(write, "one.py")], "Two": code("print('two')", "two.py")}
    report = {"title": "n", "markdown": "n is {{ data/n.json#n }}."}
    with OpenAIServer(Team(steps=steps, report=report)) as server:
        monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
        run = old.run("failed").resume().wait(60)
    assert run.status == "completed", run.error
    assert json.loads((run.work_dir / "data/n.json").read_text()) == {"n": 1}


def test_its_skills_run(old: Workspace) -> None:
    skill = old.skills.get("sum_squares")
    done = skill.run(power=1.0)
    assert done.status == "completed"
    assert total(skill, done) == 15.0
    both = old.skills.get("squares_and_mean")
    assert both.run(power=3.0).status == "completed"


def test_its_exported_skill_is_imported(home: Path, workspace: Workspace) -> None:
    (shared,) = (home.parent / "shared").iterdir()
    skill = workspace.skills.import_(shared)
    assert skill.name == "sum_squares"
    assert not skill.info.trusted
