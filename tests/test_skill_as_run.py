"""A skill as a run: its graph and gates, agents where it deviates, guided by its code; over a real HTTP server."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cmbagent_nb.errors import SkillError, StateError, UsageError
from cmbagent_nb.ids import new_id
from cmbagent_nb.run import Run
from cmbagent_nb.runtime import Runtime
from cmbagent_nb.skills.running.seen import ENOUGH, observe
from cmbagent_nb.workspace import Workspace
from tests.openai_server import OpenAIServer, text_of
from tests.team import APPROVED, Team, code, plan

COUNT = """
import json

N_BINS = 4  # number of bins

values = json.load(open("input/values.json"))["x"]
if N_BINS > 100:
    raise ValueError(f"cannot make {N_BINS} bins")
json.dump({"total": sum(values), "bins": N_BINS}, open("data/count.json", "w"))
print("counted", len(values))
"""
SCALE = """
import json

FACTOR = 2.0  # what every value is multiplied by

values = json.load(open("input/values.json"))["x"]
json.dump({"scaled": [FACTOR * value for value in values]}, open("data/scaled.json", "w"))
"""
JOIN = """
import json

total = json.load(open("data/count.json"))["total"]
scaled = json.load(open("data/scaled.json"))["scaled"]
json.dump({"ratio": sum(scaled) / total}, open("data/join.json", "w"))
print("ratio", sum(scaled) / total)
"""
STEPS = {"Count": code(COUNT, "count.py"), "Scale": code(SCALE, "scale.py"), "Join": code(JOIN, "join.py")}
PLAN = plan(
    {"title": "Count", "expected_outputs": ["data/count.json"]},
    {"title": "Scale", "expected_outputs": ["data/scaled.json"]},
    {"title": "Join", "expected_outputs": ["data/join.json"], "depends_on": [1, 2], "needs_approval": True},
)
VALUES = {"values": {"x": [1, 2, 3]}}

#: What can go wrong in a single step, by the value of one parameter.
FAULTY = """
import json
import os
import sys
import time
from pathlib import Path

FAULT = "none"  # what goes wrong
LIMIT = 3.5  # largest value

result = {"fault": FAULT, "mean": 1.5, "rows": int(LIMIT)}
if FAULT == "exit":
    sys.exit(3)
if FAULT == "killed":
    os.kill(os.getpid(), 9)
if FAULT == "slow":
    time.sleep(60)
if FAULT == "memory":
    raise MemoryError("too large")
if FAULT == "number":
    result["mean"] = float("nan")
if FAULT == "lost number":
    del result["mean"]
if LIMIT == 7.5:
    result["mean"] = 1e9
lines = {"key": {}, "index": [], "type": None, "zero": 0}
if FAULT == "key":
    lines["key"]["x"]
if FAULT == "index":
    lines["index"][0]
if FAULT == "type":
    len(lines["type"])
if FAULT == "zero":
    1 / lines["zero"]
if FAULT == "file":
    open("input/not_there.csv")
if FAULT == "import":
    import no_such_module
if FAULT == "attribute":
    lines.values_of
table = "n,square\\n" + "".join(f"{n},{n * n}\\n" for n in range(int(LIMIT)))
if FAULT == "column":
    table = "".join(line.partition(",")[0] + "\\n" for line in table.splitlines())
if FAULT == "rows":
    table = "n,square\\n"
if FAULT != "no table":
    Path("data/table.csv").write_text("" if FAULT == "empty" else table)
Path("data/result.json").write_text("{" if FAULT == "damaged" else json.dumps(result))
"""
FAULTS = (
    "exit", "killed", "slow", "memory", "number", "lost number", "key", "index", "type", "zero", "file", "import",
    "attribute", "column", "rows", "no table", "empty", "damaged",
)  # fmt: skip


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A workspace with two skills, made by real runs; every test works on a copy of it."""
    home = tmp_path_factory.mktemp("shelf") / "home"
    with pytest.MonkeyPatch.context() as patch, OpenAIServer(planned()) as server:
        patch.setenv("CMBAGENT_BASE_URL", server.url)
        patch.setenv("CMBAGENT_MODEL", "openai:test-model")
        workspace = Workspace(home)
        try:
            _make_skills(workspace, server)
        finally:
            workspace.close()
    yield home


def _make_skills(workspace: Workspace, server: OpenAIServer) -> None:
    run = workspace.planning_and_control("Count and scale.", inputs=VALUES, approve="plan,error", gates="approve")
    assert run.wait(60).status == "completed", run.error
    assert server.count == 5
    skill = run.extract_skill("pipeline", liveness_s=0)
    assert skill.status == "active", skill.info.verification
    run = workspace.one_shot("Make a table.").wait(60)
    assert run.status == "completed", run.error
    faulty = run.extract_skill("faulty", liveness_s=0)
    assert faulty.status == "active" and [item.name for item in faulty.parameters][:2] == ["FAULT", "LIMIT"]


def planned() -> Team:
    return Team(plan=PLAN, review=APPROVED, code=code(FAULTY, "table.py"), steps=STEPS)


@pytest.fixture
def ws(shelf: Path, tmp_path: Path) -> Iterator[Workspace]:
    home = tmp_path / "home"
    shutil.copytree(shelf, home)
    opened = Workspace(home)
    yield opened
    faults = opened._core.writer.faults
    opened.close()
    assert faults == 0


def execution(run: Run) -> dict[str, Any]:
    from cmbagent_nb.store.lookup import parsed

    rows = run._host.db.rows("SELECT * FROM skill_executions WHERE run_id = :id", id=run.id)
    assert len(rows) == 1
    return parsed(rows[0])


def at_server(monkeypatch: pytest.MonkeyPatch, server: OpenAIServer) -> None:
    monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
    monkeypatch.setenv("CMBAGENT_MODEL", "openai:test-model")


# ---- without a model


def test_a_skill_is_a_run_like_any_other(ws: Workspace) -> None:
    """Its graph is that of its source, the gates that were there ask, and nobody is called."""
    run = ws.run_skill("pipeline", {"factor": 3})
    asked = threading.Event()
    stop = run.subscribe(lambda: asked.set() if run.approvals() else None)
    assert asked.wait(30) or run.approvals()
    stop()
    assert run.status == "waiting_approval"
    statuses = run.nodes().set_index("node_id")["status"].to_dict()
    assert statuses == {
        "step_1": "completed", "step_2": "completed", "step_3": "waiting_approval", "terminator": "pending",
    }  # fmt: skip
    run.approve()
    run.wait(30)
    assert (run.status, run.mode, run.model, run.cost_usd) == ("completed", "skill", "none", 0.0), run.error
    assert json.loads((run.work_dir / "data/join.json").read_text()) == {"ratio": 3.0}
    assert run.result.text == "ratio 3.0"
    steps = run.steps()
    assert steps["title"].tolist() == ["Count", "Scale", "Join"]
    assert [json.loads(item) if isinstance(item, str) else list(item) for item in steps["depends_on"]][2] == [
        "step_1",
        "step_2",
    ]
    events = run.events()
    skill = events.query("event_type == 'skill'")
    assert skill["event_subtype"].tolist() == ["start", "complete"]
    assert events.query("event_type == 'code_exec'")["status"].tolist() == ["completed"] * 3
    assert events.query("event_type == 'model_call'").empty and events.query("event_type == 'agent_call'").empty
    row = execution(run)
    assert (row["status"], row["mode"], row["adapted"], row["meta"]["model_calls"]) == ("completed", "direct", 0, 0)
    assert row["parameters"] == {"FACTOR": 3.0}
    assert row["metrics"] == {"total": 6, "bins": 4, "ratio": 3.0}
    assert row["outputs"] == ["data/count.json", "data/scaled.json", "data/join.json"]
    assert run._row()["skill_id"] == row["skill_id"]
    assert [link["label"].split(" ")[0] for link in run.lineage("data/join.json").links][1:3] == [
        "file_gen",
        "code_exec",
    ]
    found = json.loads((run.work_dir / "notebook.ipynb").read_text())
    [parameters] = [cell for cell in found["cells"] if cell["id"] == "parameters"]
    assert "FACTOR = 3.0" in "".join(parameters["source"])
    assert ws.skills.get("pipeline").info.usage_count == 1


def test_what_does_not_fit_is_told_before_there_is_a_run(ws: Workspace) -> None:
    """A wrong parameter, a file that is not there, a mode that is none: no run, no folder, no execution."""
    before = ws.runs().shape[0], sorted((ws.home / "runs").iterdir())
    with pytest.raises(SkillError, match="no parameter"):
        ws.run_skill("pipeline", {"factr": 2})
    with pytest.raises(SkillError, match="not there"):
        ws.run_skill("pipeline", {"values": "/no/such.json"})
    with pytest.raises(UsageError, match="direct and guided"):
        ws.run_skill("pipeline", mode="planned", strict_mode=True)
    assert (ws.runs().shape[0], sorted((ws.home / "runs").iterdir())) == before
    assert ws._core.db.rows("SELECT COUNT(*) AS n FROM skill_executions")[0]["n"] == 0


def test_options_of_a_start_reach_the_named_skill(ws: Workspace) -> None:
    """What is no option is told, a skill is not made of a skill, and nobody adapts where that is not allowed."""
    with pytest.raises(UsageError, match="max_atempts"):
        ws.one_shot("Count.", skill="pipeline", max_atempts=1)
    with pytest.raises(UsageError, match="one is to be made"):
        ws.one_shot("Count.", skill="pipeline", create_skill=True)
    with pytest.raises(UsageError, match="allow_adaptation is for a skill"):
        ws.one_shot("Count.", allow_adaptation=False)
    options: dict[str, Any] = {"approve": "", "allow_adaptation": False, "max_attempts": 2, "step_timeout": 50}
    run = ws.one_shot("Count with n_bins = 200.", skill="pipeline", **options).wait(30)
    assert run.status == "failed" and "adaptation=False" in str(run.error)
    kept = ws._core.db.rows("SELECT meta FROM workflow_runs WHERE id = :id", id=run.id)[0]["meta"]
    assert json.loads(kept)["max_attempts"] == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [({}, "a model would adapt"), ({"strict_mode": True}, "strict_mode"), ({"allow_adaptation": False}, "adaptation")],
)
def test_a_deviation_fails_where_nobody_may_mend_it(ws: Workspace, options: dict[str, Any], said: str) -> None:
    """Without a model, strictly, or when adaptation is not allowed: the run says so, and what deviated is kept."""
    run = ws.run_skill("pipeline", {"N_BINS": 200}, approve="", **options).wait(30)
    assert run.status == "failed" and said in str(run.error), run.error
    assert run.steps()["status"].tolist() == ["failed", "completed", "skipped"]
    row = execution(run)
    assert (row["status"], row["success"], row["adapted"]) == ("failed", 0, 0)
    assert row["meta"]["deviations"][0]["reason"].startswith("ValueError: cannot make 200 bins")
    assert row["meta"]["deviations"][0]["node_id"] == "step_1"


def test_a_redo_needs_somebody_to_do_it(ws: Workspace) -> None:
    """A person asks for other code and there is no model: the step fails and says what would help."""
    run = ws.run_skill("faulty", approve="after_step")
    asked = threading.Event()
    stop = run.subscribe(lambda: asked.set() if run.approvals() else None)
    assert asked.wait(30) or run.approvals()
    stop()
    run.approve(resolution="redo", feedback="Use more rows.")
    run.wait(30)
    assert run.status == "failed" and "there is no model" in str(run.error)


def test_a_run_of_a_skill_is_cancelled(ws: Workspace) -> None:
    """Its process dies with it, and the execution says so."""
    run = ws.run_skill("faulty", {"FAULT": "slow"})
    until_running(run)
    run.cancel()
    run.wait(30)
    assert (run.status, execution(run)["status"]) == ("cancelled", "cancelled")
    pid = run._host.db.rows("SELECT pid FROM step_attempts WHERE run_id = :id", id=run.id)[0]["pid"]
    assert not Path(f"/proc/{pid}").exists()


def until_running(run: Run) -> None:
    """Wait until the process of the run's first step has started."""
    changed = threading.Event()
    stop = run.subscribe(changed.set)
    try:
        for _ in range(200):
            if run._host.db.rows("SELECT 1 FROM step_attempts WHERE run_id = :id AND pid IS NOT NULL", id=run.id):
                return
            changed.wait(0.2)
            changed.clear()
    finally:
        stop()
    raise TimeoutError(run.status)


def test_a_run_of_a_skill_goes_on(ws: Workspace) -> None:
    """Interrupted at its gate and taken up again: what was done is not done again, and it is one execution."""
    run = ws.run_skill("pipeline")
    asked = threading.Event()
    stop = run.subscribe(lambda: asked.set() if run.approvals() else None)
    assert asked.wait(30) or run.approvals()
    stop()
    live = run._host.live[run.id]
    Runtime.get().call_soon(live.interrupt)
    run.wait(30)
    assert (run.status, execution(run)["status"]) == ("interrupted", "interrupted")
    again = run.resume()
    while not run.approvals():
        run.snapshot()
    again.approve()
    again.wait(30)
    assert again.status == "completed", again.error
    assert again.events().query("event_type == 'code_exec'")["node_id"].tolist().count("step_1") == 1
    row = execution(again)
    assert (row["status"], len(row["meta"]["resumed"])) == ("completed", 1)


# ---- agents


def shown_code(request: dict[str, Any]) -> str:
    """Return the code that a prompt shows."""
    text = "\n".join(text_of(message) for message in request["messages"] if message["role"] == "user")
    return text.split("```python\n")[1].split("```")[0]


def test_agents_go_on_where_it_deviates(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """One step fails, one call mends it with the skill as context, the others run from the skill."""
    prompts: list[str] = []

    def mend(request: dict[str, Any]) -> Any:
        prompts.append("\n".join(text_of(message) for message in request["messages"]))
        mended = shown_code(request).replace('["x"]', '["y"]')
        return code(mended) | {"modification_summary": "The values are under y."}

    team = Team(steps={"Count": mend, "Scale": mend})
    with OpenAIServer(team) as server:
        at_server(monkeypatch, server)
        given = {"values": {"y": [1, 2, 3]}}
        run = ws.run_skill("pipeline", {"N_BINS": 5}, inputs=given, approve="", task="Count y.").wait(60)
        assert run.status == "completed", run.error
        assert server.count == 2
    prompts.sort()
    assert "# The skill pipeline v1 does this step" in prompts[0] and "KeyError: 'x'" in prompts[0]
    assert "N_BINS = 5 (was 4): number of bins" in prompts[0] and "Count y." in prompts[0]
    row = execution(run)
    assert (row["status"], row["adapted"], row["meta"]["model_calls"]) == ("completed", 1, 2)
    kinds = {(item["kind"], item["node_id"]) for item in row["adaptations"]}
    assert {("code", "step_1"), ("code", "step_2")} <= kinds
    first = next(item for item in row["adaptations"] if item["node_id"] == "step_1" and item["kind"] == "code")
    assert '["y"]' in first["after"] and '["x"]' in first["before"]
    assert "KeyError" in first["reason"] and "The values are under y." in first["reason"]
    assert (
        "KeyError" in row["adaptation_reason"]
        and '+values = json.load(open(values_file))["y"]' in (row["context_diff"]["code"]["step_1"])
    )
    skill = run.events().query("event_type == 'skill'")["event_subtype"].tolist()
    assert skill[0] == "start" and skill[-1] == "complete" and skill.count("adapted") >= 2
    assert ws.skills.get("pipeline").info.meta.get("seen") is None  # what agents made is no measure for the skill
    again = run.extract_skill("pipeline_of_y", liveness_s=0)  # what was mended is a skill of its own
    assert again.status == "active" and again.run().success, again.info.verification
    with pytest.raises(StateError, match="one of a skill"):
        run.replay()


def test_an_agent_has_to_make_the_files_of_its_step(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code that goes on and makes nothing has not done the step, unless a verdict says that it has."""
    prompts: list[str] = []

    def mend(request: dict[str, Any]) -> Any:
        prompts.append("\n".join(text_of(message) for message in request["messages"]))
        return code("print('nothing')") if len(prompts) == 1 else code(COUNT.replace("N_BINS > 100", "N_BINS > 900"))

    team = Team(steps={"Count": mend}, verdict={"achieved": False, "reason": "There is no file.", "fix_suggestion": ""})
    with OpenAIServer(team) as server:
        at_server(monkeypatch, server)
        run = ws.run_skill("pipeline", {"N_BINS": 200}, approve="").wait(60)
        assert run.status == "completed" and server.count == 3, run.error
    assert "data/count.json" in prompts[0] and "did not make data/count.json" in prompts[1]


def test_a_changed_parameter_is_told_from_changed_code(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that only gives a parameter another value has adapted that."""
    team = Team(steps={"Count": lambda request: code(shown_code(request).replace("N_BINS = 200", "N_BINS = 50"))})
    with OpenAIServer(team) as server:
        at_server(monkeypatch, server)
        run = ws.run_skill("pipeline", {"N_BINS": 200}, approve="").wait(60)
        assert run.status == "completed" and server.count == 1, run.error
    found = execution(run)["adaptations"]
    assert [(item["kind"], item["before"], item["after"]) for item in found] == [
        ("parameter", {"N_BINS": 200}, {"N_BINS": 50})
    ]


def test_every_deviation_is_recorded(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors, files and results of nineteen kinds, injected one by one: each is kept, and so is what mended it."""
    monkeypatch.setenv("CMBAGENT_STEP_TIMEOUT", "20")
    skill = ws.skills.get("faulty")
    for rows in range(1, 1 + ENOUGH + 4):
        numbers = {"mean": ("data/result.json", 1.5), "rows": ("data/result.json", float(rows))}
        observe(skill.info, {"LIMIT": rows + 0.1}, numbers, ws.home)
    wanted: list[dict[str, Any]] = [{"FAULT": name} for name in FAULTS]
    # with this limit the code gives another mean: no error, and no missing file
    wanted.append({"LIMIT": 7.5})
    mended = FAULTY.replace("if LIMIT == 7.5", "if LIMIT == 8.5")
    with OpenAIServer(lambda request: code(mended, "table.py")) as server:
        at_server(monkeypatch, server)
        runs = [ws.run_skill("faulty", values) for values in wanted]
        for run in runs:
            run.wait(300)
    recorded, kept, missed = 0, 0, []
    for run, values in zip(runs, wanted, strict=True):
        row = execution(run)
        deviated = bool(row["meta"].get("deviations"))
        adapted = bool(row["adaptations"]) and bool(row["adaptation_reason"]) and run.status == "completed"
        recorded, kept = recorded + deviated, kept + adapted
        missed += [] if deviated and adapted else [(values, run.status, run.error, row["meta"].get("deviations"))]
    assert (recorded, kept) == (len(wanted), len(wanted)), missed


def test_guided_asks_once_for_all_steps(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The skill's graph is the plan, its code goes along; three steps cost one call where planning took five."""
    seen: list[str] = []

    def fitted(request: dict[str, Any]) -> Any:
        seen.append("\n".join(text_of(message) for message in request["messages"]))
        steps = [
            {"step": "step_1", "change": False, "reason": "", "python_code": ""},
            {
                "step": "step_2",
                "change": True,
                "reason": "The task wants squares.",
                "python_code": SCALE.replace("FACTOR * value", "value**2"),
            },
        ]
        return {"steps": steps}

    with OpenAIServer(Team(fitted=fitted)) as server:
        at_server(monkeypatch, server)
        run = ws.run_skill("pipeline", {"N_BINS": 3}, mode="guided", task="Sum the squares.", approve="").wait(60)
        assert run.status == "completed", run.error
        assert server.count == 1  # planning, review and three steps took five: 80 % fewer
    assert "Sum the squares." in seen[0] and "N_BINS = 3" in seen[0] and seen[0].count("```python") == 3
    assert json.loads((run.work_dir / "data/join.json").read_text()) == {"ratio": 14 / 6}
    row = execution(run)
    assert (row["mode"], row["adapted"]) == ("guided", 1)
    assert [(item["kind"], item["node_id"], item["reason"]) for item in row["adaptations"]] == [
        ("code", "step_2", "The task wants squares.")
    ]


def test_guided_goes_step_by_step_where_one_answer_cannot_be_had(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step is asked for with the skill's code as the template; gates and retries are as ever."""
    prompts: list[str] = []

    def count(request: dict[str, Any]) -> Any:
        prompts.append("\n".join(text_of(message) for message in request["messages"]))
        return code(COUNT, "count.py")

    with OpenAIServer(Team(steps={**STEPS, "Count": count})) as server:
        at_server(monkeypatch, server)
        run = ws.run_skill("pipeline", mode="guided", task="Count again.", gates="approve").wait(60)
        assert run.status == "completed", run.error
        assert server.count == 4
    assert "Take it as the template" in prompts[0] and "N_BINS = 4" in prompts[0]
    assert run.gates()["approval_type"].tolist() == ["step_approval"]


def test_guided_needs_a_model(ws: Workspace) -> None:
    """Nobody can be asked: told before there is a run."""
    from cmbagent_nb.errors import NoModel

    with pytest.raises(NoModel):
        ws.run_skill("pipeline", mode="guided", task="Anything.")
    assert new_id()  # the workspace is as it was
