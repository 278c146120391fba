"""Better names and prose from a model: taken where the notebook stays right, thrown away where not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cmbagent_nb.errors import NoModel
from tests.held import extract
from tests.openai_server import OpenAIServer
from tests.skill_runs import Home, Step, make_run
from tests.team import Team

CODE = """\
import json

N = 12
taken = 5
open("data/sum.json", "w").write(json.dumps({"sum": sum(range(N)) * taken}))
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    opened = Home.open(tmp_path / "home")
    yield opened
    opened.close()


def words(**better: str) -> dict[str, Any]:
    return {
        "description": "Sums the first numbers.",
        "parameters": [
            {"name": name, "better_name": new, "meaning": f"what {new} means", "unit": "m"}
            for name, new in better.items()
        ],
        "steps": [{"node_id": "step_1", "title": "Sum up", "about": "It adds. <b>Bold</b>"}],
        "tags": ["Sums"],
    }


@pytest.fixture
def run_id(home: Home) -> str:
    return make_run(home, "Sum the first 12 numbers.", [Step(CODE)])


def improve(home: Home, run_id: str, answer: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    with OpenAIServer(Team(skillwords=answer)) as server:
        monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
        return extract(home.db, home.writer, home.path, run_id, name="sums", model="openai:test-model", liveness_s=20)


def test_names_and_prose_get_better(home: Home, run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The notebook is verified with them; a name that the code has is not taken; the call is in the run's record."""
    skill = improve(home, run_id, words(N="n_numbers", taken="json"), monkeypatch)
    assert skill.status == "active", skill.info.verification
    assert [item.name for item in skill.parameters] == ["n_numbers", "taken", "sum_file"]
    assert (skill.parameters[0].help, skill.parameters[0].unit) == ("what n_numbers means", "m")
    assert set(skill.info.verification["liveness"]["alive"]) == {"n_numbers", "taken", "sum_file"}
    assert (skill.info.description, "sums" in skill.info.tags) == ("Sums the first numbers.", True)
    text = skill.notebook.read_text()
    assert "N = n_numbers" in text
    assert "Sum up" in text
    assert skill.run(n_numbers=3).metrics == {"sum": 15}
    home.writer.barrier().result()
    calls = home.db.rows("SELECT * FROM execution_events WHERE run_id = :id AND event_type = 'model_call'", id=run_id)
    assert [item["agent_name"] for item in calls] == ["skill_writer"]
    assert len(home.db.rows("SELECT id FROM cost_records WHERE run_id = :id", id=run_id)) == 1


def test_a_model_that_fails_does_no_harm(home: Home, run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The skill is what it is without one, and the report says why."""
    skill = improve(home, run_id, "no JSON at all", monkeypatch)
    assert [item.name for item in skill.parameters] == ["N", "taken", "sum_file"]
    assert skill.status == "active"
    assert "a model was asked for better words and gave none" in skill.info.verification["notes"][0]


def test_names_that_break_the_notebook_are_thrown_away(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code looks for a name in a way that nobody sees: the prose is kept, the names are not."""
    code = "N = 4\nopen('data/n.txt', 'w').write(f\"{N} {'amo' + 'unt' in globals()}\")\n"
    run_id = make_run(home, "Write 4.", [Step(code)])
    skill = improve(home, run_id, words(N="amount"), monkeypatch)
    assert [item.name for item in skill.parameters] == ["N", "n_file"]
    assert skill.status == "active"
    assert "names that a model gave were thrown away" in skill.info.verification["notes"][-1]
    assert "It adds." in skill.notebook.read_text()


def test_no_model_is_told_before_anything_runs(home: Home, run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What to do is said."""
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "CMBAGENT_BASE_URL", "CMBAGENT_MODEL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(NoModel, match="no model"):
        extract(home.db, home.writer, home.path, run_id, name="sums", improve=True)
