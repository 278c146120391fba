"""REST of skills over a real Jupyter server: what it tells, what it makes and executes, what it refuses."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cmbagent_nb.skills.model import Parameter
from cmbagent_nb.skills.sharing.export import write_files
from tests.held import extract
from tests.made_skills import again, executed, make_skill
from tests.rest_server import TOKEN, Server
from tests.shared_skill import package
from tests.skill_runs import Home, Step, make_run

COUNT = """
import json

TOP = 5  # how many numbers there are

json.dump({"sum": sum(range(TOP))}, open("data/sum.json", "w"))
"""
TASK = "Add up the whole numbers below 5 and write the sum."
SLOW = "import time\nPath('data/begun.txt').write_text('x')\ntime.sleep(SECONDS)"


@dataclass
class Shelf:
    """Two workspaces with skills, by their places, and what is in them."""

    one: Path
    two: Path
    run: str
    sum: str
    other: str


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("skills")


@pytest.fixture(scope="module")
def shelf(place: Path) -> Shelf:
    home = Home.open(place / "one")
    run = make_run(home, TASK, [Step(COUNT)])
    skill = extract(home.db, home.writer, home.path, run, name="sum", tags=["numbers"], liveness_s=0)
    assert skill.status == "active", skill.info.verification
    seconds = [Parameter("SECONDS", "float", 0.0)]
    make_skill(home, "slow", [SLOW], seconds, made={"data/begun.txt": {"kind": "other"}})
    learned = make_skill(home, "learned", ["x = N"], [Parameter("N", "int", 3)])
    again(home, executed(home, learned, parameters={"N": 4}, duration_s=2.0), 10)
    make_skill(home, "learned", ["y = N"], [Parameter("N", "int", 3)])
    home.close()
    home = Home.open(place / "two")
    other = make_skill(home, "sum", ["z = 1"], tags=["other"])
    executed(home, other)
    home.close()
    return Shelf(place / "one", place / "two", run, skill.id, other.id)


@pytest.fixture(scope="module")
def server(place: Path, shelf: Shelf) -> Iterator[Server]:
    started = Server(place, [shelf.one, shelf.two], CMBAGENT_STARTER_SKILLS="off")
    yield started
    started.stop()


def until_ended(server: Server, job: str) -> dict[str, Any]:
    for _ in range(600):
        found: dict[str, Any] = server.ask(f"skill-jobs/{job}")[1]
        if found["status"] != "running":
            return found
        time.sleep(0.1)  # another process: there is nothing to await
    raise AssertionError(found)


# ---- reading


def test_skills_are_listed_searched_and_sorted(server: Server, shelf: Shelf) -> None:
    status, found = server.ask("skills")
    assert status == 200
    assert [(row["name"], row["version"], row["workspace"]) for row in found["skills"]] == [
        ("learned", 2, str(shelf.one)),
        ("slow", 1, str(shelf.one)),
        ("sum", 1, str(shelf.one)),
        ("sum", 1, str(shelf.two)),
    ]
    row = found["skills"][2]
    assert (row["id"], row["status"], row["trusted"], row["verified"]) == (shelf.sum, "active", True, True)
    assert {"numbers"} <= set(row["tags"])
    assert row["parameters"][0]["name"] == "TOP"
    assert row["success_rate"] is None and isinstance(row["created_at"], float)
    assert found["problems"] == []
    assert [row["id"] for row in server.ask("skills?tags=numbers")[1]["skills"]] == [shelf.sum]
    assert [row["id"] for row in server.ask("skills?search=whole+numbers")[1]["skills"]] == [shelf.sum]
    assert server.ask("skills?search=nowhere")[1]["skills"] == []
    assert [row["name"] for row in server.ask("skills?sort=name&limit=1")[1]["skills"]] == ["learned"]


def test_a_skill_and_its_parts(server: Server, shelf: Shelf) -> None:
    status, skill = server.ask(f"skills/{shelf.sum}")
    assert status == 200
    assert {"skill_id", "name", "version", "status", "parameters", "notebook", "verification"} <= set(skill)
    assert (skill["workspace"], skill["source_run_id"]) == (str(shelf.one), shelf.run)
    assert "task_embedding" not in skill
    assert [row["version"] for row in server.ask("skills/learned/versions")[1]["versions"]] == [1, 2]
    assert server.ask("skills/learned@1")[1]["version"] == 1
    executions = server.ask("skills/learned/executions?limit=4")[1]
    assert (len(executions["executions"]), executions["after"]) == (4, 4)
    one = executions["executions"][0]
    assert server.ask(f"skills/learned/executions/{one['id']}")[1]["parameters"] == {"N": 4}
    assert server.ask(f"skills/slow/executions/{one['id']}")[0] == 404
    figures = server.ask("skills/learned/performance")[1]["performance"]
    assert [(row["version"], row["executions"], row["median_s"]) for row in figures] == [(1, 11, 2.0), (2, 0, None)]
    artifacts = server.ask(f"skills/{shelf.sum}/artifacts")[1]["artifacts"]
    assert artifacts and {row["skill_id"] for row in artifacts} == {shelf.sum}
    assert "sum(range(TOP))" in server.ask(f"skills/{shelf.sum}/code")[1]["code"]
    dashboard = server.ask("skills/learned@1/dashboard")[1]
    assert dashboard["skill"]["name"] == "learned"
    assert dashboard["versions"] == figures
    assert len(dashboard["executions"]) == 11
    said = server.ask("skills/learned@1/analyze", {})[1]["recommendations"]
    assert dashboard["recommendations"] == said
    assert any(item["target"] == "N" for item in said)


def test_a_name_in_two_workspaces_needs_to_be_told_which(server: Server, shelf: Shelf) -> None:
    status, answer = server.ask("skills/sum")
    assert (status, "?workspace=" in answer["next_step"]) == (409, True)
    assert server.ask(f"skills/sum?workspace={shelf.two}")[1]["skill_id"] == shelf.other
    assert server.ask(f"skills/{shelf.other}")[1]["workspace"] == str(shelf.two)


def test_a_task_finds_its_skill(server: Server, shelf: Shelf) -> None:
    status, found = server.ask("skills/match", {"task": TASK, "required_tags": ["numbers"]})
    assert (status, [row["skill_id"] for row in found["matches"]]) == (200, [shelf.sum])
    assert {"name", "version", "score", "semantic", "lexical", "tags", "reason"} <= set(found["matches"][0])
    assert server.ask("skills/match", {"task": "Bake a cake with apples"})[1]["matches"] == []
    for where, expected in ((shelf.one, shelf.sum), (shelf.two, shelf.other)):
        rows = server.ask("skills/match", {"task": TASK, "workspace": str(where), "k": 1})[1]["matches"]
        assert [row["skill_id"] for row in rows] in ([expected], [])


def test_top_skills_of_all_workspaces(server: Server) -> None:
    status, found = server.ask("analytics/skills/top?metric=usage&limit=2")
    assert status == 200
    first, _ = found["skills"]
    assert (first["name"], first["executions"]) == ("learned", 11)


# ---- working


def test_an_execution_is_known_before_it_begins(server: Server, shelf: Shelf) -> None:
    status, begun = server.ask(f"skills/{shelf.sum}/execute", {"parameters": {"top": 4}})
    assert (status, begun["status"], begun["skill"]) == (202, "running", "sum")
    path = f"skills/{shelf.sum}/executions/{begun['execution_id']}"
    status, at_once = server.ask(path)
    assert (status, at_once["status"] in ("starting", "running", "completed")) == (200, True)
    ended = until_ended(server, begun["job"])
    assert (ended["status"], ended["error"]) == ("completed", None)
    assert {"execution_id", "status", "work_dir", "outputs", "duration_s", "adapted", "error"} <= set(ended["result"])
    assert ended["result"]["execution_id"] == begun["execution_id"]
    row = server.ask(path)[1]
    assert (row["status"], row["parameters"], row["metrics"]) == ("completed", {"TOP": 4}, {"sum": 6.0})
    assert json.loads(Path(row["work_dir"], "data/sum.json").read_text()) == {"sum": 6}


def test_a_job_is_cancelled_and_its_execution_with_it(server: Server) -> None:
    begun = server.ask("skills/slow/execute", {"parameters": {"SECONDS": 600}})[1]
    path = f"skills/slow/executions/{begun['execution_id']}"
    for _ in range(600):
        row = server.ask(path)[1]
        if row["status"] == "running" and Path(row["work_dir"], "data/begun.txt").exists():
            break
        time.sleep(0.1)  # another process: there is nothing to await
    status, ended = server.ask(f"skill-jobs/{begun['job']}/cancel", {})
    assert (status, ended["status"]) == (200, "completed")
    assert ended["result"]["status"] == "cancelled"
    assert server.ask(path)[1]["status"] == "cancelled"


def test_a_run_becomes_a_skill_that_is_verified_again(server: Server, shelf: Shelf) -> None:
    asked = {"run": shelf.run, "name": "added", "steps": "1", "tags": ["new"], "description": "Adds", "wait": 300}
    status, made = server.ask("skills/extract", asked)
    assert (status, made["name"], made["version"], made["status"]) == (200, "added", 1, "active"), made
    status, soon = server.ask("skills/added/verify", {"wait": 0})
    assert (status, soon["status"], soon["what"]) == (202, "running", "verify")
    verified = until_ended(server, soon["job"])["result"]
    assert (verified["status"], verified["verification"]["verified"]) == ("active", True)
    assert server.ask("skills/added", method="DELETE")[1]["deleted"] is True
    assert server.ask("skills/added")[0] == 404


def test_export_import_trust_execute(server: Server, shelf: Shelf) -> None:
    address = f"http://127.0.0.1:{server.port}/cmbagent/api/skills/{shelf.sum}/export?format="
    content = {}
    for kind in ("json", "zip"):
        request = urllib.request.Request(address + kind, headers={"Authorization": f"token {TOKEN}"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert f".{kind}" in answer.headers["Content-Disposition"]
            content[kind] = answer.read()
    assert content["zip"].startswith(b"PK")
    packed = json.loads(content["json"])
    asked = {"skill": packed, "name": "taken", "workspace": str(shelf.two)}
    status, taken = server.ask("skills/import", asked)
    assert (status, taken["name"], taken["trusted"], taken["workspace"]) == (200, "taken", False, str(shelf.two))
    assert "sum(range(TOP))" in taken["code"]
    for what in ("execute", "verify"):
        status, answer = server.ask(f"skills/taken/{what}", {})
        assert (status, "skill trust taken" in answer["next_step"]) == (403, True)
    assert server.ask("skills/taken/executions")[1]["executions"] == []
    assert server.ask("skills/taken/trust", {})[1]["trusted"] is True
    status, done = server.ask("skills/taken/execute", {"wait": 120})
    assert (status, done.get("status"), done.get("metrics")) == (200, "completed", {"sum": 10.0}), done


def test_learning_rollback_and_composing(server: Server, shelf: Shelf) -> None:
    found = server.ask("skills/learned@1/optimize", {})[1]
    assert (found["executions"], found["new_version"]) == (11, None)
    status, back = server.ask("skills/learned/rollback", {"version": 1, "reason": "it was better"})
    assert (status, back["version"]) == (200, 1)
    assert server.ask("skills/learned")[1]["version"] == 1
    asked = {"name": "both", "skills": ["slow", "learned"], "pattern": "parallel", "wait": 300}
    status, made = server.ask("skills/compose", asked)
    assert (status, made["name"], made["status"]) == (200, "both", "active"), made


# ---- refusing


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("skills/nothing-like-it", None, 404),
        ("skills/nothing-like-it/execute", {}, 404),
        ("skills/slow/executions/nothing", None, 404),
        ("skill-jobs/nothing", None, 404),
        ("skills/slow/nothing", None, 404),
        ("skills?sort=beauty", None, 400),
        ("skills?status=perfect", None, 400),
        ("skills/slow/export?format=tar", None, 400),
        ("skills/slow/performance?by=mood", None, 400),
        ("analytics/skills/top?metric=beauty", None, 400),
        ("skills/slow/execute", {"parameters": {"SECONDS": "long"}}, 400),
        ("skills/slow/execute", {"parameters": {"NOTHING": 1}}, 400),
        ("skills/slow/execute", {"parameters": [1]}, 400),
        ("skills/slow/execute", {"wait": 1e9}, 400),
        ("skills/slow/rollback", {}, 400),
        ("skills/slow/rollback", {"version": 7}, 404),
        ("skills/slow/optimize", {}, 409),
        ("skills/match", {}, 400),
        ("skills/match", {"task": "x", "workspace": "/nowhere"}, 400),
        ("skills/match", {"task": "x", "min_similarity": 7}, 400),
        ("skills/extract", {"name": "x"}, 400),
        ("skills/extract", {"name": "../up", "run": "RUN"}, 400),
        ("skills/extract", {"name": "x", "run": "nothing-like-it"}, 404),
        ("skills/extract", {"name": "x", "run": "RUN", "steps": "7", "wait": 60}, 400),
        ("skills/compose", {"name": "x", "skills": ["slow"]}, 409),
        ("skills/compose", {"name": "x", "skills": "slow,nothing-like-it"}, 404),
        ("skills/import", {}, 400),
        ("skills/import", {"skill": {"files": {}}}, 400),
    ],
)
def test_what_is_wrong_is_said_with_what_to_do(server: Server, shelf: Shelf, path: str, body: Any, status: int) -> None:
    if isinstance(body, dict) and body.get("run") == "RUN":
        body = {**body, "run": shelf.run}
    found, answer = server.ask(path, body)
    assert (found, set(answer)) == (status, {"error", "next_step", "message"}), answer
    assert answer["error"].endswith(".")
    assert answer["next_step"]


def test_a_package_with_a_path_outside_is_refused(server: Server, shelf: Shelf, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    folder.mkdir()
    write_files(package(), folder)
    _, packed = server.ask(f"skills/{shelf.sum}/export?format=json")
    files = packed["files"]
    name = next(iter(files))
    files["../../outside.py"] = files.pop(name)
    status, answer = server.ask("skills/import", {"skill": packed})
    assert (status, "outside" in answer["error"]) == (400, True)
    assert not (shelf.one.parent / "outside.py").exists()


def test_nobody_gets_in_without_the_token(server: Server, shelf: Shelf) -> None:
    for path, body, method in (
        ("skills", None, None),
        ("skills/slow", None, None),
        ("skills/slow", None, "DELETE"),
        ("skills/slow/execute", {}, None),
        ("skills/import", {}, None),
        ("skills/match", {"task": "x"}, None),
        ("skill-jobs/x/cancel", {}, None),
        ("analytics/skills/top", None, None),
    ):
        status, answer = server.ask(path, body, token="", method=method)
        assert (status, bool(answer["next_step"])) == (403, True), path
    assert server.ask("skills/slow")[0] == 200
