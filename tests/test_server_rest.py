"""REST over a real Jupyter server: what the panel and scripts see of the record, and of what is wrong."""

from __future__ import annotations

import http.cookiejar
import json
import socket
import sqlite3
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from cmbagent_nb.ids import new_id
from cmbagent_nb.server.workspace_pool import WorkspacePool
from cmbagent_nb.store.database import Database
from cmbagent_nb.store.migrate import migrate
from cmbagent_nb.store.writer import Writer
from cmbagent_nb.workspace import Workspace
from tests.openai_server import OpenAIServer
from tests.rest_server import TOKEN, Server
from tests.team import code

NOW = 1_700_000_000.0


def seed(home: Path, name: str, *, gates: int = 0) -> str:
    """Write a run of two steps with three events, as its owner would; the owner is this process."""
    from cmbagent_nb.workflow.ownership import owner

    db = Database.open(home)
    writer = Writer(db)
    run, session = new_id(), new_id()
    writer.insert("sessions", {"id": session, "name": f"session of {name}", "created_at": NOW})
    writer.insert(
        "workflow_runs",
        {
            "id": run,
            "session_id": session,
            "name": name,
            "mode": "planning_and_control",
            "model": "openai:gpt-5",
            "model_source": "live",
            "status": "executing",
            "task_description": "Fit <b>it</b>",
            "created_at": time.time(),
            "started_at": NOW,
            "work_dir": str(home / "runs" / name),
            "plan": {"goal": "to fit", "steps": []},
        },
    )
    writer.insert("leases", {"run_id": run, "owner": owner(), "heartbeat_at": time.time()})
    for number, status in ((1, "completed"), (2, "running")):
        ours = {"run_id": run, "session_id": session, "node_id": f"step_{number}", "title": f"Step {number}"}
        writer.insert(
            "workflow_steps", {"id": new_id(), **ours, "step_number": number, "status": status, "agent": "engineer"}
        )
        writer.insert(
            "dag_nodes", {"id": new_id(), **ours, "node_type": "step", "status": status, "order_index": number}
        )
    writer.insert(
        "dag_edges", {"run_id": run, "from_node_id": "step_1", "to_node_id": "step_2", "dependency_type": "sequential"}
    )
    for order in (1, 2, 3):
        writer.insert(
            "execution_events",
            {
                "id": new_id(),
                "run_id": run,
                "session_id": session,
                "node_id": "step_1",
                "event_type": "info",
                "status": "completed",
                "started_at": NOW + order,
                "execution_order": order,
                "depth": 0,
                "outputs": {"value": float("nan"), "order": order},
            },
        )
    for cost in (0.25, None) if name == "unknown-cost" else (0.25, 0.5):
        writer.insert(
            "cost_records",
            {
                "run_id": run,
                "session_id": session,
                "node_id": "step_1",
                "provider": "openai",
                "model": "m",
                "cost_usd": cost,
                "prompt_tokens": 1,
                "completion_tokens": 1,
                "total_tokens": 2,
                "created_at": NOW,
            },
        )
    options = [{"id": "approved", "label": "Approve"}, {"id": "modified", "label": "Change", "needs_comment": True}]
    for number in range(gates):
        writer.insert(
            "approval_requests",
            {
                "id": new_id(),
                "run_id": run,
                "session_id": session,
                "node_id": "planning",
                "approval_type": "plan_approval",
                "status": "pending",
                "created_at": NOW + number,
                "context": {"title": f"Gate {number}", "options": options},
            },
        )
    writer.barrier().result(30)
    assert writer.faults == 0
    writer.close()
    db.close()
    return run


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def runs(place: Path) -> dict[str, str]:
    """Three runs in two workspaces; "twin" is in both."""
    return {
        "alpha": seed(place / "one", "alpha", gates=2),
        "unknown-cost": seed(place / "one", "unknown-cost"),
        "twin": seed(place / "one", "twin"),
        "other twin": seed(place / "two", "twin", gates=1),
    }


@pytest.fixture(scope="module")
def server(place: Path, runs: dict[str, str]) -> Iterator[Server]:
    broken, gone = place / "broken", place / "gone"
    broken.mkdir()
    (broken / "cmbagent.db").write_bytes(b"this is not a database" * 100)
    (place / "empty").mkdir()
    started = Server(place, [place / "one", broken, place / "two", place / "empty", gone])
    yield started
    started.stop()


def test_runs_of_all_workspaces_are_listed_newest_first(server: Server, place: Path, runs: dict[str, str]) -> None:
    status, found = server.ask("runs")
    assert status == 200
    assert [row["id"] for row in found["runs"]] == list(reversed(runs.values()))
    row = found["runs"][-1]
    assert row["workspace"] == str(place / "one")
    assert (row["name"], row["status"], row["steps"], row["steps_done"]) == ("alpha", "executing", 2, 1)
    assert (row["calls"], row["cost_usd"], row["open_gates"], row["silent"]) == (2, 0.75, 2, False)


def test_a_cost_that_is_not_known_is_not_a_number(server: Server) -> None:
    _, found = server.ask("runs")
    assert [row["cost_usd"] for row in found["runs"] if row["name"] == "unknown-cost"] == [None]


def test_a_broken_workspace_is_named_and_breaks_no_other(server: Server, place: Path) -> None:
    _, found = server.ask("runs")
    (problem,) = found["problems"]
    assert problem["workspace"] == str(place / "broken")
    assert "damaged" in problem["error"]
    assert problem["next_step"]


def test_looking_makes_no_workspace(server: Server, place: Path) -> None:
    server.ask("runs")
    assert not list((place / "empty").iterdir())
    assert not (place / "default").exists()


def test_runs_can_be_limited_and_filtered(server: Server) -> None:
    assert len(server.ask("runs?limit=2")[1]["runs"]) == 2
    assert server.ask("runs?status=completed")[1]["runs"] == []
    assert len(server.ask("runs?status=executing")[1]["runs"]) == 4


def test_what_was_written_since_is_seen(server: Server, place: Path) -> None:
    before = len(server.ask("runs")[1]["runs"])
    seed(place / "two", "late")
    assert len(server.ask("runs")[1]["runs"]) == before + 1


def test_a_run_is_found_by_id_name_and_part_of_its_id(server: Server, runs: dict[str, str]) -> None:
    for reference in (runs["alpha"], "alpha", runs["alpha"][-10:]):
        status, row = server.ask(f"runs/{reference}")
        assert (status, row["id"], row["plan"]) == (200, runs["alpha"], {"goal": "to fit", "steps": []})
    assert server.ask("runs/alpha/status")[1]["status"] == "executing"


def test_a_name_that_is_in_two_workspaces_is_a_conflict(server: Server, runs: dict[str, str]) -> None:
    status, found = server.ask("runs/twin")
    assert status == 409
    assert found["next_step"]
    assert server.ask(f"runs/{runs['other twin']}")[0] == 200


def test_steps_graph_and_events(server: Server) -> None:
    assert [step["node_id"] for step in server.ask("runs/alpha/steps")[1]["steps"]] == ["step_1", "step_2"]
    graph = server.ask("runs/alpha/dag")[1]
    assert [node["node_id"] for node in graph["nodes"]] == ["step_1", "step_2"]
    assert [(edge["from_node_id"], edge["to_node_id"]) for edge in graph["edges"]] == [("step_1", "step_2")]
    events = server.ask("runs/alpha/events")[1]
    assert [event["execution_order"] for event in events["events"]] == [1, 2, 3]
    assert events["events"][0]["outputs"] == {"value": None, "order": 1}


def test_events_come_in_pages(server: Server) -> None:
    first = server.ask("runs/alpha/events?limit=2")[1]
    assert [event["execution_order"] for event in first["events"]] == [1, 2]
    rest = server.ask(f"runs/alpha/events?after={first['after']}")[1]
    assert [event["execution_order"] for event in rest["events"]] == [3]
    assert server.ask(f"runs/alpha/events?after={rest['after']}")[1] == {"events": [], "after": 3}


def test_open_gates_are_listed_oldest_first(server: Server, runs: dict[str, str]) -> None:
    gates = server.ask("approvals/pending")[1]["approvals"]
    assert [gate["created_at"] for gate in gates] == sorted(gate["created_at"] for gate in gates)
    assert {gate["run_id"] for gate in gates} == {runs["alpha"], runs["other twin"]}
    assert gates[0]["context"]["options"][0] == {"id": "approved", "label": "Approve"}
    status, gate = server.ask(f"approvals/{gates[0]['id']}")
    assert (status, gate["context"], gate["run_name"]) == (200, gates[0]["context"], gates[0]["run_name"])


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("runs/nothing-like-it", None, 404),
        ("runs/nothing-like-it/steps", None, 404),
        ("runs/nothing-like-it/cancel", {}, 404),
        ("runs/nothing-like-it/pause", {}, 404),
        ("runs/nothing-like-it/messages", None, 404),
        ("runs/alpha/pause", {"now": "yes"}, 400),
        ("runs/alpha/files?limit=1000000", None, 400),
        ("approvals/nothing", None, 404),
        ("approvals/nothing/approve", {}, 404),
        ("nothing/here", None, 404),
        ("runs?limit=many", None, 400),
        ("runs?limit=-1", None, 400),
        ("runs/alpha/events?limit=1000000", None, 400),
        ("approvals/GATE/resolve", {"resolution": "perhaps"}, 400),
        ("approvals/GATE/resolve", {"resolution": "modified"}, 400),
        ("approvals/GATE/resolve", {"resolution": ["approved"]}, 400),
        ("approvals/GATE/reject", {}, 400),
        ("approvals/GATE/resolve", ["approved"], 400),
    ],
)
def test_what_is_wrong_is_said_with_what_to_do(server: Server, path: str, body: Any, status: int) -> None:
    gate = server.ask("approvals/pending")[1]["approvals"][0]["id"]
    found, answer = server.ask(path.replace("GATE", gate), body)
    assert (found, set(answer)) == (status, {"error", "next_step", "message"})
    assert answer["error"].endswith(".")
    assert answer["next_step"]


def test_a_body_that_is_not_json_is_refused(server: Server) -> None:
    gate = server.ask("approvals/pending")[1]["approvals"][0]["id"]
    status, answer = server.ask(f"approvals/{gate}/resolve", raw=b"{not json")
    assert (status, bool(answer["error"])) == (400, True)


def test_nobody_gets_in_without_the_token(server: Server) -> None:
    for path, body in (
        ("runs", None),
        ("approvals/pending", None),
        ("runs/alpha/cancel", {}),
        ("runs/alpha/pause", {}),
        ("approvals/x/approve", {}),
    ):
        status, answer = server.ask(path, body, token="")
        assert status == 403, path
        assert answer["next_step"]


def test_a_browser_that_is_signed_in_needs_the_xsrf_token_to_decide(server: Server) -> None:
    """Another site's page has the cookies of the browser sent along, but cannot read them."""
    jar = http.cookiejar.CookieJar()
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    browser.open(f"http://127.0.0.1:{server.port}/?token={TOKEN}", timeout=30).close()
    address = f"http://127.0.0.1:{server.port}/cmbagent/api/"
    with browser.open(address + "runs", timeout=30) as answer:
        assert json.loads(answer.read())["runs"]
    cookies = {cookie.name: cookie.value or "" for cookie in jar}
    gate = server.ask("approvals/pending")[1]["approvals"][0]["id"]
    wrong = json.dumps({"resolution": "perhaps"}).encode()

    def decide(headers: dict[str, str]) -> int:
        try:
            browser.open(
                urllib.request.Request(f"{address}approvals/{gate}/resolve", wrong, headers), timeout=30
            ).close()
        except urllib.error.HTTPError as error:
            error.close()
            return error.code
        return 200

    assert decide({}) == 403
    assert decide({"X-XSRFToken": cookies["_xsrf"]}) == 400


def test_a_gate_whose_owner_does_not_act_is_left_to_it(server: Server, place: Path) -> None:
    """This process owns the run and looks at no commands: the answer waits for it, and the asker is told."""
    gate = server.ask("approvals/pending")[1]["approvals"][0]
    status, answer = server.ask(f"approvals/{gate['id']}/resolve", {"resolution": "modified", "comment": "Plot it too"})
    assert (status, answer["approval"]["status"]) == (202, "pending")
    db = Database.open(place / "one" if gate["workspace"].endswith("one") else place / "two")
    (command,) = db.rows("SELECT command, arguments, origin FROM commands WHERE run_id = :run", run=gate["run_id"])
    db.close()
    assert command["command"] == "answer_gate"
    arguments = json.loads(command["arguments"])
    assert arguments.pop("answer_id")
    assert arguments == {
        "hash": "",
        "approval_id": gate["id"],
        "resolution": "modified",
        "feedback": "Plot it too",
    }


@contextmanager
def also(server: Server, home: Path) -> Iterator[None]:
    """Let the server know one more workspace."""
    listing = server.folder / "workspaces.json"
    before = listing.read_text()
    listing.write_text(json.dumps({"workspaces": [{"path": str(home), "opened_at": NOW}]}))
    yield
    listing.write_text(before)


def test_a_run_of_another_process_is_paused_and_resumed(
    server: Server, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner acts on it before the reply comes; what is not possible now is refused."""
    thinking, think = threading.Event(), threading.Event()

    def slow(request: Any) -> Any:
        thinking.set()
        assert think.wait(60)
        return code("open('data/a.txt', 'w').write('a')")

    with OpenAIServer(slow) as model, also(server, workspace.home):
        monkeypatch.setenv("CMBAGENT_BASE_URL", model.url)
        run = workspace.one_shot("Greet.", model="openai:m", name="held")
        assert thinking.wait(30)
        assert server.ask("runs/held/resume", {})[0] == 409
        assert server.ask("runs/held/pause", {"now": True}) == (200, {"id": run.id, "status": "paused"})
        assert run.status == "paused"
        assert server.ask("runs/held/pause", {})[0] == 409
        assert server.ask("runs/held/resume", {}) == (200, {"id": run.id, "status": "executing"})
        think.set()
        assert run.wait(30).status == "completed", run.error
        for action in ("pause", "resume"):
            status, answer = server.ask(f"runs/held/{action}", {})
            assert (status, "completed" in answer["error"]) == (409, True)
        history = server.ask("runs/held/history")[1]["history"]
        changes = [row for row in history if row["entity_type"] == "workflow_run"]
        assert [row["to_state"] for row in changes] == ["executing", "paused", "executing", "completed"]
        assert changes[1]["transitioned_by"] == changes[2]["transitioned_by"] == "you, over REST"
        for part in ("history", "messages", "files", "costs", "checkpoints"):
            whole = server.ask(f"runs/held/{part}")[1][part]
            frame = getattr(run, part)()
            assert [row["id"] for row in whole] == frame["id"].tolist() != []
            pages, after = [], 0
            while found := (answer := server.ask(f"runs/held/{part}?limit=1&after={after}")[1])[part]:
                pages += found
                after = answer["after"]
            assert pages == whole


def test_the_server_runs_nothing_itself(server: Server, place: Path) -> None:
    """A run that nobody has is left to those who can go on with it; one whose owner is silent is waited for."""
    run = seed(place / "two", "torn")
    db = Database.open(place / "two")
    writer = Writer(db)
    writer.update("workflow_runs", run, {"status": "interrupted"})
    writer.barrier().result(30)
    status, answer = server.ask("runs/torn/resume", {})
    assert (status, "no process has it" in answer["error"]) == (409, True)
    assert "%cmbagent resume torn" in answer["next_step"] and "cmbagent resume torn" in answer["next_step"]
    assert server.ask("runs/torn/pause", {})[0] == 409
    assert db.rows("SELECT COUNT(*) AS n FROM commands WHERE run_id = :run", run=run)[0]["n"] == 0
    writer.close()
    db.close()
    assert server.ask("runs/unknown-cost/pause", {})[0] == 202


def test_places_open_a_replaced_database_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CMBAGENT_WORKSPACES_FILE", str(tmp_path / "workspaces.json"))
    home = tmp_path / "home"
    places = WorkspacePool(lambda: [home])

    def names() -> list[str]:
        found, problems = places.read(
            lambda workspace: workspace._core.db.rows("SELECT name FROM workflow_runs"), "names"
        )
        assert not problems
        return [row["name"] for _, _, rows in found for row in rows]

    try:
        seed(home, "before")
        assert names() == ["before"]
        for path in home.glob("cmbagent.db*"):
            path.unlink()
        seed(home, "after")
        assert names() == ["after"]
    finally:
        places.close()


# ---- looking writes nothing


def state_of(home: Path) -> dict[str, Any]:
    """Return what a workspace holds: its tables' rows and its other files, and the version of its tables."""
    with closing(sqlite3.connect(f"file:{home / 'cmbagent.db'}?mode=ro", uri=True)) as db:
        content = list(db.iterdump())
    files = {
        path.relative_to(home).as_posix(): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(home.rglob("*"))
        if path.is_file() and not path.name.startswith("cmbagent.db")
    }
    return {"content": content, "files": files}


READS = (
    "runs", "runs/{run}", "runs/{run}/steps", "runs/{run}/events", "runs/{run}/dag", "runs/{run}/files",
    "approvals/pending", "skills", "skills?search=fit", "analytics/skills/top", "skills/hz-fit",
    "skills/hz-fit/executions", "skills/hz-fit/versions", "skills/hz-fit/code", "skills/hz-fit/dashboard",
    "skills/hz-fit/export?format=json",
)  # fmt: skip


@pytest.mark.parametrize("version", ["0003", None], ids=["of an older version", "of this version"])
def test_no_get_writes(tmp_path: Path, version: str | None) -> None:
    """A run whose process died, a library without starter skills, tables of an older version: all stay as they are."""
    home = tmp_path / "home"
    run = seed(home, "old")
    with closing(Database.open(home)) as db:
        writer = Writer(db)
        gone = '{"host": "' + socket.gethostname() + '", "pid": 999999999, "started": 1.0}'
        writer.call(lambda c: c.exec_driver_sql("UPDATE leases SET owner = ?, heartbeat_at = 1.0", (gone,))).result(30)
        writer.close()
        if version is not None:
            migrate(db, version)
    before = state_of(home)
    (tmp_path / "server").mkdir()
    server = Server(tmp_path / "server", [home], CMBAGENT_STARTER_SKILLS="on")
    try:
        for path in READS:
            for _ in range(2):
                status, answer = server.ask(path.format(run=run))
                assert status in (200, 404), (path, answer)
        (found,) = server.ask("runs")[1]["runs"]
        assert found["status"] == "interrupted" or found["silent"]
        assert state_of(home) == before
        status, answer = server.ask("skills/starter", {"workspace": str(home)})
        assert status == 200
        assert "hz-fit" in answer["installed"]
        assert server.ask("skills/hz-fit")[0] == 200
    finally:
        server.stop()


def test_the_home_of_the_environment_confines_the_server(tmp_path: Path) -> None:
    for name in ("one", "two"):
        seed(tmp_path / name, name)
    (tmp_path / "server").mkdir()
    server = Server(tmp_path / "server", [tmp_path / "one", tmp_path / "two"], CMBAGENT_HOME=str(tmp_path / "one"))
    try:
        assert [run["name"] for run in server.ask("runs")[1]["runs"]] == ["one"]
        assert server.ask("runs/two")[0] == 404
    finally:
        server.stop()


@pytest.mark.parametrize("body", [b"\xff\xfe{}", b'{"comment": "\xe9"}', b"[" * 100_000, b"{", b"\x00"])
def test_a_body_that_cannot_be_read_is_wrong_use(server: Server, body: bytes) -> None:
    status, answer = server.ask("runs/none/cancel", raw=body)
    assert (status, answer) != (500, answer)
    status, answer = server.ask("skills/match", raw=body)
    assert status == 400
    assert answer["next_step"]


def test_a_workspace_is_opened_for_changes_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []

    def counted(home: Path) -> Workspace:
        opened.append(home)
        return Workspace(home)

    monkeypatch.setattr("cmbagent_nb.workspace.Workspace", counted)
    places = WorkspacePool(lambda: [tmp_path])
    try:
        first = places.writable(tmp_path)
        assert all(places.writable(tmp_path) is first for _ in range(3))
        assert opened == [tmp_path]
    finally:
        places.close()
