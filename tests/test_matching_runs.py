"""Runs that look for a skill: shown at a gate, used by itself where that is safe, named, or planned; recorded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest

from cmbagent_nb.errors import SettingsError, SkillNotFound, UsageError
from cmbagent_nb.run import Run
from cmbagent_nb.skills.model import Parameter
from cmbagent_nb.workspace import Workspace
from tests.made_skills import make_skill
from tests.openai_server import OpenAIServer
from tests.skill_runs import Home
from tests.team import APPROVED, Team, code, plan
from tests.test_gates import until, until_gate

TASK = "Count the galaxies of a catalogue in redshift bins"
CODE = """
import pandas as pd
table = pd.read_csv(catalogue_file)
counts = table["z"].floordiv(width).value_counts().sort_index()
json.dump({"bins": len(counts), "width": width, "total": int(counts.sum())}, open("data/counts.json", "w"))
print("bins:", len(counts))"""


@pytest.fixture
def skill(workspace: Workspace) -> str:
    home = Home(workspace.home, workspace._core.db, workspace._core.writer)
    parameters = [
        Parameter("width", "float", 0.1, help="width of a redshift bin"),
        Parameter("catalogue_file", "str", "input/catalogue.csv", kind="input"),
    ]
    made = make_skill(
        home,
        "galaxy_counts",
        [CODE],
        parameters,
        assets={"input/catalogue.csv": "z,mag\n0.11,20\n0.12,21\n0.31,20\n"},
        made={"data/counts.json": {"kind": "json"}},
        task=TASK,
        description=TASK,
        tags=["galaxies"],
    )
    return made.id


@pytest.fixture
def team(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIServer]:
    """A model whose plan and code work, for the runs that plan."""
    write = code("open('data/by_agent.txt', 'w').write('made')\nprint('by an agent')", "write.py")
    handler = Team(plan=plan({"title": "Write"}), review=APPROVED, steps={"Write": write, "Count": write})
    with OpenAIServer(handler) as server:
        monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
        monkeypatch.setenv("CMBAGENT_MODEL", "openai:test-model")
        yield server


def matches(workspace: Workspace, run: Run) -> list[dict[str, Any]]:
    """Return what the record says of the skills that were looked for."""
    workspace._core.writer.barrier().result()
    return workspace._core.db.rows("SELECT * FROM skill_matches WHERE run_id = :id ORDER BY created_at", id=run.id)


def row(workspace: Workspace, run: Run) -> dict[str, Any]:
    workspace._core.writer.barrier().result()
    return workspace._core.db.rows("SELECT * FROM workflow_runs WHERE id = :id", id=run.id)[0]


def edges(workspace: Workspace, run: Run) -> set[tuple[str, str]]:
    found = workspace._core.db.rows("SELECT from_node_id, to_node_id FROM dag_edges WHERE run_id = :id", id=run.id)
    return {(edge["from_node_id"], edge["to_node_id"]) for edge in found}


def test_the_skill_is_shown_and_used(workspace: Workspace, skill: str, team: OpenAIServer) -> None:
    """The gate says why and with which values; what is used runs as a skill, and no model is called."""
    table = pd.DataFrame({"z": [0.1, 0.2, 0.9], "mag": [1, 2, 3]})
    run = workspace.planning_and_control(f"{TASK} of width = 0.2", auto_match=True, inputs={"survey": table})
    gate = until_gate(run)
    until(run, lambda: run.status == "waiting_approval")
    context: Any = gate["context"]
    assert gate["approval_type"] == "skill_match" and context["skill"]["name"] == "galaxy_counts"
    assert "galaxies" in context["body"] and context["parameters"] == {"width": 0.2}
    assert [option["id"] for option in context["options"]] == ["use", "plan"]
    assert matches(workspace, run)[0]["status"] == "offered"
    run.approve()
    assert run.wait(60).status == "completed", run.error
    kept = row(workspace, run)
    assert (kept["mode"], kept["skill_id"]) == ("skill", skill) and team.count == 0
    assert edges(workspace, run) == {("skill_match", "step_1"), ("step_1", "terminator")}
    made = json.loads((run.work_dir / "data" / "counts.json").read_text())
    assert made == {"bins": 3, "width": 0.2, "total": 3}, "the data at hand was used"
    (found,) = matches(workspace, run)
    assert (found["status"], found["mode"], found["skill_id"]) == ("accepted", "manual", skill)
    assert found["score"] >= 0.7 and found["duration_ms"] > 0 and "galaxy_counts" in found["candidates"]
    events = run.events()
    assert set(events[events["event_type"] == "skill"]["event_subtype"]) >= {"matched", "start", "complete"}
    execution = workspace._core.db.rows("SELECT * FROM skill_executions WHERE run_id = :id", id=run.id)[0]
    assert execution["success"] and execution["mode"] == "direct"


def test_the_skill_is_refused_and_the_run_plans(workspace: Workspace, skill: str, team: OpenAIServer) -> None:
    """Planning follows the gate, and the next time the refusal counts."""
    before = workspace.skills.match(TASK)[0]
    run = workspace.planning_and_control(TASK, auto_match=True)
    until_gate(run)
    run.reject()
    assert run.wait(60).status == "completed", run.error
    kept = row(workspace, run)
    assert (kept["mode"], kept["skill_id"]) == ("planning_and_control", None) and team.count > 0
    assert {("skill_match", "planning"), ("planning", "step_1")} <= edges(workspace, run)
    assert matches(workspace, run)[0]["status"] == "refused"
    after = workspace.skills.explain(TASK, "galaxy_counts").iloc[0]
    assert after["score"] < before.score and "refused" in after["reason"]


@pytest.mark.parametrize(
    ("options", "status", "mode"),
    [
        ({"auto_match": True, "gates": "approve"}, "applied", "skill"),
        ({"skill": "auto", "gates": "default"}, "applied", "skill"),
        ({"auto_match": True, "gates": "reject"}, "abstained", "one_shot"),
        ({"auto_match": True, "gates": "approve", "required_tags": ["quasars"]}, "abstained", "one_shot"),
    ],
)
def test_without_a_person_it_is_used_only_where_that_is_safe(
    workspace: Workspace, skill: str, team: OpenAIServer, options: dict[str, Any], status: str, mode: str
) -> None:
    """Nobody waits for anybody: verified, trusted and above the limit, or planned."""
    run = workspace.start(TASK, **options)
    run.wait(60)
    found = matches(workspace, run)
    assert [item["status"] for item in found] == [status] and row(workspace, run)["mode"] == mode
    assert (found[0]["mode"], found[0]["skill_id"]) == ("auto", skill if status == "applied" else None)
    assert team.count == (0 if mode == "skill" else 1)


@pytest.mark.parametrize("column", ["verification", "trusted"])
def test_what_is_not_verified_or_trusted_is_never_used_by_itself(
    workspace: Workspace, skill: str, team: OpenAIServer, monkeypatch: pytest.MonkeyPatch, column: str
) -> None:
    """The setting ``skill_mode = auto`` looks at each start, and plans where it is not safe."""
    monkeypatch.setenv("CMBAGENT_SKILL_MODE", "auto")
    workspace._core.writer.update("skills", skill, {column: {"verified": False} if column == "verification" else False})
    workspace._core.writer.barrier().result()
    run = workspace.one_shot(TASK)
    run.wait(60)
    assert row(workspace, run)["mode"] == "one_shot" and matches(workspace, run)[0]["status"] == "abstained"


def test_the_setting_looks_at_each_start(
    workspace: Workspace, skill: str, team: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``auto`` uses what is safe, asks where gates are asked for, and ``skill="off"`` is for one run."""
    monkeypatch.setenv("CMBAGENT_SKILL_MODE", "auto")
    assert row(workspace, workspace.one_shot(TASK).wait(60))["mode"] == "skill"
    asked = workspace.one_shot(TASK, approve="error")
    assert until_gate(asked)["approval_type"] == "skill_match"
    asked.cancel()
    assert asked.wait(60).status == "cancelled"
    without = workspace.one_shot(TASK, skill="off").wait(60)
    assert row(workspace, without)["mode"] == "one_shot" and matches(workspace, without) == []
    monkeypatch.setenv("CMBAGENT_SKILL_MODE", "sometimes")
    with pytest.raises(SettingsError, match="off, manual, auto"):
        workspace.one_shot(TASK)


def test_no_model_is_needed_where_a_skill_does_it(workspace: Workspace, skill: str) -> None:
    """Without any model the skill runs; what no skill does says that there is no model."""
    done = workspace.one_shot(TASK, auto_match=True, gates="approve").wait(60)
    assert done.status == "completed", done.error
    run = workspace.one_shot("Write a poem about the sea", auto_match=True, gates="approve").wait(60)
    assert run.status == "failed" and "No skill fits this task, and there is no model" in str(run.error)
    run = workspace.one_shot(TASK, auto_match=True, gates="reject").wait(60)
    assert run.status == "failed" and "No skill is used, and there is no model" in str(run.error)


def test_a_skill_that_is_named_is_used(workspace: Workspace, skill: str, team: OpenAIServer) -> None:
    """Its name, values from the task and by hand; the choice is recorded; what makes no sense is told."""
    run = workspace.one_shot(f"{TASK}, width 0.3", skill="galaxy_counts").wait(60)
    assert run.status == "completed", run.error
    assert json.loads((run.work_dir / "data" / "counts.json").read_text())["width"] == 0.3
    assert [(item["status"], item["mode"]) for item in matches(workspace, run)] == [("accepted", "manual")]
    given = workspace.one_shot(TASK, skill="galaxy_counts", skill_parameters={"width": 0.5}).wait(60)
    assert json.loads((given.work_dir / "data" / "counts.json").read_text())["width"] == 0.5
    table = pd.DataFrame({"z": [0.1, 0.9], "mag": [1, 2]})
    own = workspace.one_shot(TASK, skill="galaxy_counts", inputs={"survey": table, "width": 0.4}).wait(60)
    assert json.loads((own.work_dir / "data" / "counts.json").read_text()) == {"bins": 2, "width": 0.4, "total": 2}
    assert team.count == 0
    with pytest.raises(SkillNotFound):
        workspace.one_shot(TASK, skill="no_such_skill")
    with pytest.raises(UsageError, match="named and one is to be looked for"):
        workspace.one_shot(TASK, skill="galaxy_counts", auto_match=True)
    with pytest.raises(UsageError, match="a skill is a plan"):
        workspace.run_plan(TASK, plan=plan({"title": "Write"}), skill="galaxy_counts")


@pytest.fixture
def second(workspace: Workspace, skill: str) -> str:
    """A skill that fits the same task about as well, and does it otherwise."""
    made = make_skill(
        Home(workspace.home, workspace._core.db, workspace._core.writer),
        "galaxy_histogram",
        [CODE.replace("floordiv", "rfloordiv")],
        [Parameter("width", "float", 0.1), Parameter("catalogue_file", "str", "input/catalogue.csv", kind="input")],
        assets={"input/catalogue.csv": "z,mag\n0.11,20\n"},
        made={"data/counts.json": {"kind": "json"}},
        task=TASK,
        description=f"{TASK} as a histogram",
    )
    return made.id


def test_where_several_fit_alike_a_person_says_which(
    workspace: Workspace, skill: str, second: str, team: OpenAIServer
) -> None:
    """Each with its reason and a button of its own; the one that is chosen runs, and is the one in the record."""
    run = workspace.one_shot(f"{TASK} of width = 0.2", auto_match=True)
    context: Any = until_gate(run)["context"]
    assert context["title"] == "2 skills fit this task. Which one?"
    shown = {option["id"]: option["label"] for option in context["options"]}
    assert set(shown) == {"use", "use_2", "plan"} and shown["plan"] == "Plan instead"
    ids = {name: choice["skill"]["skill_id"] for name, choice in context["choices"].items()}
    assert set(ids.values()) == {skill, second}
    assert context["body"].count(" % match · shares: ") == 2 and context["body"].count("width = 0.2") == 2
    run.approve(resolution="use_2")
    run.wait(60)
    (found,) = matches(workspace, run)
    assert (found["status"], found["skill_id"]) == ("accepted", ids["use_2"])
    assert row(workspace, run)["skill_id"] == ids["use_2"] and team.count == 0


def test_without_a_person_only_copies_are_alike(
    workspace: Workspace, skill: str, second: str, team: OpenAIServer
) -> None:
    """Two skills that do it otherwise: the run plans. Of two that are described alike, either will do."""
    run = workspace.one_shot(TASK, auto_match=True, gates="approve").wait(60)
    assert matches(workspace, run)[0]["status"] == "abstained" and row(workspace, run)["mode"] == "one_shot"
    workspace._core.writer.update("skills", second, {"description": TASK})
    workspace._core.writer.barrier().result()
    run = workspace.one_shot(TASK, auto_match=True, gates="approve").wait(60)
    assert matches(workspace, run)[0]["status"] == "applied" and row(workspace, run)["mode"] == "skill"


def test_a_run_that_was_asking_asks_again_after_its_process_died(
    workspace: Workspace, skill: str, team: OpenAIServer
) -> None:
    """The gate is opened again, its inputs read from where they lie; what was chosen is not asked for twice."""
    table = pd.DataFrame({"z": [0.1, 0.9], "mag": [1, 2]})
    run = workspace.one_shot(TASK, auto_match=True, inputs={"survey": table})
    until_gate(run)
    run._live.interrupt()  # type: ignore[union-attr]
    assert run.wait(60).status == "interrupted"
    again = workspace.resume(run.id)
    until_gate(again)
    again.approve(resolution="use")
    assert again.wait(60).status == "completed", again.error
    assert row(workspace, again)["mode"] == "skill" and team.count == 0
    assert json.loads((again.work_dir / "data" / "counts.json").read_text())["total"] == 2
