"""The verbs: what they take, what they give, and what they say when they cannot."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cmbagent_nb import verbs
from cmbagent_nb.errors import AmbiguousReference, GateError, InputError, RunNotFound, UsageError
from cmbagent_nb.run import Run
from cmbagent_nb.store.snapshot import read_snapshot
from cmbagent_nb.store.totals import TOTALS
from cmbagent_nb.verbs import VERBS, Output, execute, parser
from cmbagent_nb.verbs.declare import ALIASES, moment
from cmbagent_nb.verbs.follow import _News
from cmbagent_nb.verbs.output import plain
from cmbagent_nb.workspace import Workspace
from tests.openai_server import OpenAIServer, in_turn
from tests.team import APPROVED, Team, code, plan

SQUARES = code(
    "import json\nlimit = 5\n"
    "json.dump({'squares': [n * n for n in range(limit)]}, open('data/squares.json', 'w'))\n"
    "print('the largest square is', (limit - 1) ** 2)\n",
    "squares.py",
)
TWO_STEPS = plan({"title": "First"}, {"title": "Second", "depends_on": [1]})

Serve = Callable[[Any], AbstractContextManager[OpenAIServer]]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Start a model server with a handler, and make it the one that is used."""

    @contextmanager
    def start(handler: Any) -> Iterator[OpenAIServer]:
        with OpenAIServer(handler) as server:
            monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
            monkeypatch.setenv("CMBAGENT_MODEL", "openai:test-model")
            yield server

    return start


@pytest.fixture
def squares(workspace: Workspace, serve: Serve) -> Run:
    """A run that has ended."""
    with serve(in_turn(SQUARES)):
        return workspace.one_shot("Compute the squares.", name="squares").wait(60)


def magic(ws: Workspace | None, line: str, **namespace: Any) -> Output:
    return execute(ws, line, front="magic", namespace=namespace)


def as_json(ws: Workspace | None, line: str) -> Any:
    output = execute(ws, f"{line} --json")
    assert output.as_json
    return json.loads(output.text)


# ---- the declarations


@pytest.mark.parametrize("front", ["cmbagent", "%cmbagent"])
def test_every_verb_and_option_has_help(front: str) -> None:
    for name, verb in VERBS.items():
        assert verb.help.endswith("."), name
        assert verb.group in verbs.declare.GROUPS
        assert all(option.keywords.get("help") for option in verb.options), name
        shown = execute(None, parser(front).parse_args(f"{name} --help"))
        assert verb.help in shown.text
        assert f"usage: {front} {name}" in shown.text


def test_the_list_of_verbs_has_all_of_them() -> None:
    for line in ("", "--help", "-h", "help"):
        text = execute(None, line).text
        assert all(f"  {name} " in text for name in VERBS)


@pytest.mark.parametrize("alias", sorted(ALIASES))
def test_hidden_names_lead_to_verbs_that_exist(alias: str) -> None:
    found, _ = parser().find(alias.split())
    assert found.name in VERBS
    assert f"  {alias} " not in parser().format_help() or alias in VERBS


def test_only_the_magic_binds_a_variable() -> None:
    assert "--out VAR" in execute(None, "run --help", front="magic").text
    with pytest.raises(UsageError, match="--out"):
        parser().parse_args('run "a task" --out x')


@pytest.mark.parametrize(
    ("line", "what", "step"),
    [
        ("rusn", "no verb 'rusn'", r"Did you mean run\? The verbs are run, runs, "),
        ("skill rn", "no verb 'skill rn'", r"Did you mean run\? The verbs are show, extract, create, "),
        ("skill", "one more word", "show, extract, create, "),
        ("events --limt 3", "--limt", "Did you mean --limit"),
        ("events --limit none", "'none' is not a whole number", "events --help"),
        ("run x --max-cost lots", "'lots' is not an amount", "run --help"),
        ("runs --since yore", "'yore' is no time", "runs --help"),
        ('run "half a task', "no closing quotation", "quotation mark"),
        ("lineage", "FILE", "lineage --help"),
        ("--limit 3 events", "--limit stands before the verb", "cmbagent VERB --limit"),
    ],
)
def test_what_cannot_be_read_is_an_error_and_never_an_exit(line: str, what: str, step: str) -> None:
    with pytest.raises(UsageError) as caught:
        parser().parse_args(line)
    assert what in caught.value.what
    assert re.search(step, caught.value.next_step)
    assert "\n" not in str(caught.value)


def test_moments() -> None:
    assert moment("2h") == pytest.approx(moment("120m"), abs=1)
    assert moment("2025-01-31T12:00:00+00:00") == 1738324800.0


def test_json_holds_what_json_can_hold() -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(
        {
            "a_at": pd.to_datetime([0, None], unit="s", utc=True),
            "n": pd.array([1, None], dtype="Int64"),
            "x": [1.5, float("inf")],
            "held": [{"y": float("nan"), "made_at": 0.5}, None],
        }
    )
    assert plain(frame) == [
        {
            "a_at": "1970-01-01T00:00:00.000000Z",
            "n": 1,
            "x": 1.5,
            "held": {"y": None, "made_at": "1970-01-01T00:00:00.500000Z"},
        },
        {"a_at": None, "n": None, "x": None, "held": None},
    ]


# ---- starting runs


def test_the_magic_starts_a_run_and_returns_at_once(workspace: Workspace, serve: Serve) -> None:
    with serve(in_turn(SQUARES)):
        output = magic(workspace, 'run "Compute the squares." --name sq --out mine')
        assert isinstance(output.display, Run)
        assert (output.bind, output.exit_status) == ("mine", 0)
        assert output.data["name"] == "sq"
        assert output.display.wait(60).status == "completed"


def test_the_command_line_waits_and_says_what_happens(workspace: Workspace, serve: Serve) -> None:
    said: list[str] = []
    failing = code("import json\njson.loads('no json')\n", "broken.py")
    with serve(in_turn(failing, SQUARES)):
        output = execute(workspace, ["run", "Compute", "the", "squares."], say=said.append)
    assert output.exit_status == 0
    assert output.text.startswith("the largest square is 16\n")
    assert "data/squares.json" in output.text
    lines = [re.sub(r"^[\d:]+ ", "", line) for line in said]
    assert [line[0] for line in lines[1:]] == ["●", "↻", "●", "✔"]
    assert "JSONDecodeError" in lines[2]
    assert "attempt 2 of 3" in lines[3]
    # One who looks only before the first attempt and after the last hears of the failed one as well.
    snapshot = read_snapshot(workspace._core.db, output.data["run_id"])
    news = _News("cmbagent", quiet=False)
    news.of(replace(snapshot, nodes=[]), workspace._core.db)
    late = [re.sub(r"^[\d:]+ ", "", line) for line in news.of(snapshot, workspace._core.db)]
    assert [line[0] for line in late] == ["↻", "✔"]
    assert "JSONDecodeError" in late[0]
    assert news.of(snapshot, workspace._core.db) == []


def test_a_run_in_another_session(workspace: Workspace, serve: Serve) -> None:
    with serve(in_turn(SQUARES)):
        execute(workspace, 'run "Compute the squares." --session elsewhere')
    assert len(as_json(workspace, "runs --session elsewhere")) == 1
    assert as_json(workspace, "runs --session default") == []


def test_in_takes_variables_and_files(workspace: Workspace, serve: Serve, tmp_path: Path) -> None:
    table = tmp_path / "my table-1.csv"
    table.write_text("x\n1\n")
    seen = code("import os\nprint(sorted(os.listdir('input')))\n", "look.py")
    with serve(in_turn(seen)):
        run = magic(workspace, f"run Look --in numbers '{table}' other='{table}'", numbers=[1, 2]).display.wait(60)
    assert run.result.text == "['my_table_1.csv', 'numbers.json', 'other.csv']"


def test_the_task_may_come_after_the_inputs(workspace: Workspace, serve: Serve, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("x\n1\n")
    with serve(in_turn(SQUARES)):
        output = execute(workspace, ["run", "--in", str(table), "Compute the squares."])
    assert workspace.run(output.data["run_id"]).task == "Compute the squares."


def test_a_playbook_gets_the_data_of_its_own_task(workspace: Workspace) -> None:
    from cmbagent_nb.llm.playbook import Playbook

    output = execute(workspace, ["run", Playbook.load("mauna-loa").task, "--json"])
    assert output.exit_status == 0, output.data["error"]
    assert output.data["model"] == "playbook:mauna-loa"
    assert output.data["model_source"] == "playbook"


@pytest.mark.parametrize(
    ("line", "error", "text"),
    [
        ("run", UsageError, "There is no task"),
        ("run '  '", UsageError, "There is no task"),
        ("run x --mode plann", UsageError, "did you mean 'plan'"),
        ("run x --in datta", InputError, "'datta' and there is no such variable or file. Did you mean data"),
        ("run x --in data data", InputError, "'data' twice"),
        ("run x --approve always", UsageError, "no gate called 'always'"),
        ("run x --name ../up", UsageError, "cannot be named"),
        ("run x --agent wizard", UsageError, "no agent 'wizard'"),
        ("run x --out 1x", UsageError, "--out needs the name of a variable"),
    ],
)
def test_a_run_that_cannot_be_started_leaves_nothing(
    workspace: Workspace, serve: Serve, line: str, error: type[Exception], text: str
) -> None:
    with serve(in_turn()) as server, pytest.raises(error, match=re.escape(text).replace("\\ ", " ")):
        magic(workspace, line, data=[1])
    assert server.count == 0
    assert not (workspace.home / "runs").exists() or not any((workspace.home / "runs").iterdir())
    assert workspace._core.db.rows("SELECT * FROM workflow_runs") == []


# ---- reading the record

TABLES = {
    "runs": ("workflow_runs", {"duration_s", "tokens", "cost_usd", "model_calls", "silent_s"}),
    "steps": ("workflow_steps", set()),
    "events": ("execution_events", set()),
    "messages": ("messages", set()),
    "files": ("files", {"missing", "conflict", "source"}),
    "costs": ("cost_records", set()),
    "history": ("state_history", set()),
}


def test_listings_give_rows_with_the_columns_of_the_tables(workspace: Workspace, squares: Run) -> None:
    for line, (name, added) in TABLES.items():
        rows = as_json(workspace, line)
        columns = {row["name"] for row in workspace._core.db.rows(f"PRAGMA table_info({name})")}
        if line == "runs":
            columns -= set(TOTALS)  # shown as tokens, cost_usd and model_calls
        assert rows, line
        assert set(rows[0]) == columns | added, line
        count = workspace._core.db.rows(f"SELECT COUNT(*) AS n FROM {name}")[0]["n"]
        assert len(rows) == count, line
        times = [value for row in rows for key, value in row.items() if key.endswith("_at") and value is not None]
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", time) for time in times), line
        assert execute(workspace, line).text.splitlines()[0].split(), line
    assert as_json(workspace, "costs")[0]["cost_usd"] is None  # unknown, not zero
    assert "1 call of unknown cost" in execute(workspace, "costs").text
    assert {row["node_id"] for row in as_json(workspace, "nodes")} >= {"step_1"}
    assert as_json(workspace, "decisions") == []


def test_events_are_the_rows_that_the_database_has(workspace: Workspace, squares: Run) -> None:
    rows = as_json(workspace, "events")
    stored = workspace._core.db.rows("SELECT id, parent_event_id FROM execution_events ORDER BY execution_order")
    assert [(row["id"], row["parent_event_id"]) for row in rows] == [tuple(row.values()) for row in stored]


def test_events_can_be_narrowed(workspace: Workspace, squares: Run) -> None:
    events = as_json(workspace, "events squares")
    kinds = as_json(workspace, "events squares --type model_call")
    assert [row["id"] for row in kinds] == [row["id"] for row in events if row["event_type"] == "model_call"]
    assert {row["agent_name"] for row in as_json(workspace, "events --agent engineer")} == {"engineer"}
    assert {row["node_id"] for row in as_json(workspace, "events --node step_1")} == {"step_1"}
    assert as_json(workspace, "events --limit 2") == events[-2:]
    with pytest.raises(RunNotFound, match=r"no node 'step1'.*Did you mean step_1"):
        execute(workspace, "events --node step1")


def test_show_and_status(workspace: Workspace, squares: Run) -> None:
    shown = execute(workspace, f"show {squares.id[-8:]}")
    assert shown.display.id == squares.id
    for part in (squares.id, "Compute the squares.", "flowchart LR", "the largest square is 16", str(squares.work_dir)):
        assert part in shown.text
    data = as_json(workspace, "show")
    assert [node["node_id"] for node in data["nodes"]] == squares.nodes().node_id.tolist()
    assert data["plan"]["steps"][0]["agent"] == "engineer"
    status = as_json(workspace, "status squares")
    assert status["status"] == "completed"
    assert status["files"] == ["codebase/squares.py", "data/squares.json"]
    assert execute(workspace, "status").text.startswith("✔ squares: completed")


def test_lineage_leads_from_a_file_to_the_task(workspace: Workspace, squares: Run) -> None:
    links = as_json(workspace, "lineage data/squares.json")
    assert (links[0]["kind"], links[-1]["kind"]) == ("file", "task")
    assert "limit = 5" in next(link["code"] for link in links if link["kind"] == "code_exec")
    assert "← task" in execute(workspace, "lineage squares data/squares.json").text
    with pytest.raises(RunNotFound, match=r"no file 'data/none.json'"):
        execute(workspace, "lineage data/none.json")


def test_runs_can_be_narrowed(workspace: Workspace, squares: Run) -> None:
    assert [row["id"] for row in as_json(workspace, "runs --status completed --mode one_shot --since 1h")] == [
        squares.id
    ]
    assert as_json(workspace, "runs --status failed") == []
    assert as_json(workspace, "runs --mode plan") == []
    assert as_json(workspace, "runs --since 2999-01-01") == []
    with pytest.raises(UsageError, match="Did you mean completed"):
        execute(workspace, "runs --status complete")


def test_a_name_or_part_of_an_id_that_fits_two_runs(workspace: Workspace, squares: Run, serve: Serve) -> None:
    with serve(in_turn(SQUARES)):
        other = workspace.one_shot("Compute the squares again.").wait(60)
    common = squares.id[:4]
    assert other.id.startswith(common)
    for line in (f"show {common}", f"events {common}", f"cancel {common}"):
        with pytest.raises(AmbiguousReference) as caught:
            execute(workspace, line)
        assert squares.id[-8:] in str(caught.value)
        assert other.id[-8:] in str(caught.value)


def test_without_a_run_there_is_nothing_to_show(workspace: Workspace) -> None:
    assert as_json(workspace, "runs") == []
    with pytest.raises(RunNotFound, match="There is no run yet"):
        execute(workspace, "show")


# ---- deciding


def wait_for_gate(run: Run) -> dict[str, Any]:
    changed = threading.Event()
    stop = run.subscribe(changed.set)
    try:
        for _ in range(300):
            changed.clear()
            if run.approvals():
                return run.approvals()[0]
            assert not run.finished, run.error
            changed.wait(0.2)
    finally:
        stop()
    raise AssertionError("no gate has opened")


DOES_NOTHING = code("print('done')\n", "nothing.py")


def test_gates_are_listed_and_answered(workspace: Workspace, serve: Serve) -> None:
    team = Team(plan=TWO_STEPS, review=APPROVED, steps={"First": DOES_NOTHING, "Second": DOES_NOTHING})
    with serve(team):
        run = workspace.planning_and_control("Do two things.", name="two", approve="plan")
        gate = wait_for_gate(run)
        listed = as_json(workspace, "approvals")
        assert [row["id"] for row in listed] == [gate["id"]]
        text = execute(workspace, "approvals two").text
        assert "1. First (engineer)" in text
        assert f"cmbagent approve {gate['id'][-8:]}" in text
        with pytest.raises(GateError, match="needs a comment"):
            execute(workspace, "approve --choose modified")
        with pytest.raises(GateError, match="It takes approved, modified, rejected"):
            execute(workspace, "approve two --choose maybe")
        changed = execute(workspace, ["changes", "two", "Call the steps by other names."])
        assert changed.data["resolution"] == "modified"
        again = wait_for_gate(run)
        assert again["id"] != gate["id"]
        with pytest.raises(GateError, match="already answered by command line: modified"):
            execute(workspace, f"approve {gate['id']}")
        with pytest.raises(GateError, match="No open gate and no run matches 'three'"):
            execute(workspace, "approve three")
        answer = as_json(workspace, f"approve {again['id'][-8:]} --feedback good")
        assert answer == {
            "approval_id": again["id"], "run_id": run.id, "run": "two", "node_id": again["node_id"],
            "status": "resolved", "resolution": "approved", "user_feedback": "good", "resolved_by": "command line",
            "hash": again["context"]["hash"],
        }  # fmt: skip
        assert run.wait(60).status == "completed", run.error
    decided = as_json(workspace, "decisions two")
    assert [row["resolution"] for row in decided] == ["modified", "approved"]
    assert decided[0]["user_feedback"] == "Call the steps by other names."
    assert team.asked["plan"] == 2
    with pytest.raises(GateError, match="no open gate; it is completed"):
        execute(workspace, "approve two")


def test_a_plan_can_be_rejected_and_a_gate_must_be_named_among_several(workspace: Workspace, serve: Serve) -> None:
    with serve(Team(plan=TWO_STEPS, review=APPROVED)):
        runs = [workspace.planning_and_control("Do two things.", approve="plan") for _ in range(2)]
        gates = [wait_for_gate(run) for run in runs]
        with pytest.raises(GateError, match="2 gates are open") as caught:
            execute(workspace, "reject")
        assert all(gate["id"][-8:] in str(caught.value) for gate in gates)
        for run in runs:
            execute(workspace, f"reject {run.name} --feedback no")
        assert {run.wait(60).status for run in runs} <= {"failed", "cancelled"}


def test_a_failed_step_can_be_skipped(workspace: Workspace, serve: Serve) -> None:
    broken = code("import json\njson.loads('no json')\n", "broken.py")
    with serve(in_turn(broken)):
        run = workspace.one_shot("Fail.", approve="error", max_attempts=1)
        wait_for_gate(run)
        assert "--choose skip" in execute(workspace, "approvals").text
        assert execute(workspace, "approve --choose skip").data["resolution"] == "skip"
        run.wait(60)


def test_cancel_ends_the_only_run(workspace: Workspace, serve: Serve) -> None:
    sleeper = code("import time\nprint('asleep', flush=True)\ntime.sleep(600)\n", "sleep.py")
    with serve(in_turn(sleeper)):
        run = workspace.one_shot("Sleep.", name="sleeper")
        output = execute(workspace, "cancel")
    assert output.data["status"] == "cancelled"
    assert run.status == "cancelled"
    assert "had ended already: cancelled" in execute(workspace, "cancel sleeper").text
    with pytest.raises(RunNotFound, match="No run is going on"):
        execute(workspace, "cancel")


# ---- skills


def test_a_skill_is_extracted_shown_and_run(workspace: Workspace, squares: Run) -> None:
    made = as_json(workspace, "skill extract squares 1 --name squares_up_to --tags demo,numbers")
    assert {"skill_id", "name", "version", "status", "parameters", "notebook", "verification"} <= set(made)
    assert made["status"] == "active", made["verification"]
    (limit,) = (item for item in made["parameters"] if item["kind"] == "value")
    assert (limit["name"], limit["type"], limit["default"]) == ("limit", "int", 5)
    assert [row["name"] for row in as_json(workspace, "skills")] == ["squares_up_to"]
    assert as_json(workspace, "show-skill squares_up_to")["source_run_id"] == squares.id
    assert "limit" in execute(workspace, "skill show squares_up_to").text
    again = as_json(workspace, "skill verify squares_up_to")
    assert (again["status"], again["verification"]["summary"]) == ("active", "1 of 1 file reproduced")
    done = as_json(workspace, "skill run squares_up_to limit=3")
    assert done["status"] == "completed", done["error"]
    assert {"execution_id", "status", "work_dir", "outputs", "duration_s", "adapted", "error"} <= set(done)
    assert json.loads(Path(done["work_dir"], "data/squares.json").read_text()) == {"squares": [0, 1, 4]}
    for values in ("limit=many", "nothing=1", "limit"):
        with pytest.raises(UsageError):
            execute(workspace, f"skill run squares_up_to {values}")


def test_a_skill_that_is_not_reproduced_any_more_becomes_a_draft(workspace: Workspace, squares: Run) -> None:
    skill = squares.extract_skill("squares_up_to")
    kept = skill.info.folder / "expected" / "data" / "squares.json"
    for place in (kept, *squares.work_dir.rglob("squares.json")):
        place.write_text('{"squares": [0, 1, 4, 9, 17]}')
    output = execute(workspace, "skill verify squares_up_to")
    assert output.exit_status == 1
    assert output.data["status"] == "draft"
    assert output.data["verification"]["verified"] is False
    assert json.loads((skill.info.folder / "verification.json").read_text())["verified"] is False
    kept.write_text('{"squares": [0, 1, 4, 9, 16]}')  # what is kept with the skill counts, not the run's own files
    assert execute(workspace, "skill verify squares_up_to").data["status"] == "active"


def test_steps_are_given_once(workspace: Workspace, squares: Run) -> None:
    with pytest.raises(UsageError, match="given twice"):
        execute(workspace, "skill extract squares 1 --steps 1 --name x")


# ---- what there is


def test_config_tells_where_each_setting_comes_from(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    workspace.home.mkdir(exist_ok=True)
    (workspace.home / "config.toml").write_text("max_attempts = 5\n")
    monkeypatch.setenv("CMBAGENT_SESSION", "mine")
    rows = {row["name"]: row for row in as_json(workspace, "config")}
    assert rows["max_attempts"]["value"] == 5
    assert rows["max_attempts"]["source"] == str(workspace.home / "config.toml")
    assert (rows["session"]["value"], rows["session"]["source"]) == ("mine", "CMBAGENT_SESSION")
    assert rows["model"]["source"] == "default"
    assert [row["name"] for row in as_json(workspace, "config approve")] == ["approve"]
    with pytest.raises(UsageError, match="no setting 'colour'"):
        execute(workspace, "config colour")


def test_config_shows_no_password(tmp_path: Path) -> None:
    ws = Workspace(tmp_path / "home", database_url="postgresql://me:top-secret@127.0.0.1:9/db")
    text = execute(ws, "config").text
    assert "top-secret" not in text
    assert "me:***@127.0.0.1" in text


def test_agents_are_listed_and_shown(workspace: Workspace) -> None:
    names = [row["name"] for row in as_json(workspace, "agents")]
    assert {"planner", "plan_reviewer", "engineer", "executor", "researcher"} <= set(names)
    assert names == [row["name"] for row in as_json(workspace, "agents list")]
    assert (
        as_json(workspace, "agents show engineer")["instructions"]
        in execute(workspace, "agents show engineer").text + "\n"
    )
    with pytest.raises(UsageError, match="no agent 'wizard'"):
        execute(workspace, "agents show wizard")


def test_models_lists_providers_and_playbooks(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    before = as_json(workspace, "models")
    assert before["model"] is None
    assert {item["provider"] for item in before["providers"]} == {"openai", "anthropic", "gemini", "ollama"}
    assert not any(item["usable"] for item in before["providers"])
    assert {item["name"] for item in before["playbooks"]} >= {"playbook:mauna-loa", "playbook:planck-desi"}
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-a-real-key-0123456789")
    after = execute(workspace, "models")
    assert after.data["model"].startswith("openai:")
    assert after.data["reason"] == "OPENAI_API_KEY is set"
    assert "sk-not" not in after.text + json.dumps(after.data)


def test_a_workspace_is_made_only_when_it_is_needed(tmp_path: Path) -> None:
    for line in ("doctor", "help", "run --help"):
        execute(None, line)
    assert not (tmp_path / "home").exists()
