"""What extraction takes from the record: ranges, unfinished runs, branches, order, what ran side by side, artifacts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cmbagent_nb.errors import SkillError, StepsNotFound
from cmbagent_nb.ids import new_id
from cmbagent_nb.skills.extracting.record import read_record
from tests.held import extract
from tests.skill_runs import Home, Step, make_run


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    opened = Home.open(tmp_path / "home")
    yield opened
    opened.close()


def write(name: str, value: str) -> str:
    return f"open('data/{name}', 'w').write(str({value}))\n"


DIAMOND = [
    Step("N_ITEMS = 4\n" + write("a.txt", "N_ITEMS"), title="Make"),
    Step(write("b.txt", "int(open('data/a.txt').read()) + 1"), title="Add", depends_on=(1,)),
    Step(write("c.txt", "int(open('data/a.txt').read()) * 2"), title="Double", depends_on=(1,)),
    Step(
        write("d.txt", "open('data/b.txt').read() + open('data/c.txt').read()"),
        title="Join",
        depends_on=(2, 3),
        failing=("1 / 0\n",),
    ),
]


def rows(home: Home, sql: str, **values: Any) -> list[dict[str, Any]]:
    home.writer.barrier().result()
    return home.db.rows(sql, **values)


def test_the_graph_is_kept_with_what_ran_side_by_side(home: Home) -> None:
    """In the template, in the prose, with retries and gates of the plan; artifacts, conditions and ranges beside it."""
    run_id = make_run(home, "Make, add, double, join.", DIAMOND)
    plan = {"goal": "", "steps": [{"title": step.title, "needs_approval": step.title == "Join"} for step in DIAMOND]}
    home.writer.update("workflow_runs", run_id, {"plan": plan, "meta": {"approve": ["plan"], "max_attempts": 3}})
    home.writer.barrier().result()
    skill = extract(home.db, home.writer, home.path, run_id, name="diamond", tags=["mine"], public=True)
    assert skill.status == "active", skill.info.verification
    graph = skill.info.dag_template
    assert graph["parallel"] == [["step_2", "step_3"]]
    assert sorted(map(tuple, graph["edges"])) == [
        ("step_1", "step_2"), ("step_1", "step_3"), ("step_2", "step_4"), ("step_3", "step_4"),
    ]  # fmt: skip
    assert [node["needs_approval"] for node in graph["nodes"]] == [False, False, False, True]
    assert graph["retry"] == {
        "max_attempts": 3,
        "attempts": {"step_1": 1, "step_2": 1, "step_3": 1, "step_4": 2},
    }
    assert (graph["gates"], graph["nodes"][3]["errors"]) == (["plan"], ["failed"])
    prose = "".join(cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])
                    for cell in json.loads(skill.notebook.read_text())["cells"])  # fmt: skip
    assert "Side by side in the run, each independent of the other: step_2 and step_3." in prose
    assert "needs step_2, step_3; makes `data/d.txt`" in prose
    row = rows(home, "SELECT * FROM skills WHERE id = :id", id=skill.id)[0]
    assert (row["visibility"], json.loads(row["agent_sequence"])) == ("public", ["engineer"] * 4)
    assert {"mine", "txt"} <= set(json.loads(row["tags"]))
    assert json.loads(row["postconditions"])["files"] == [f"data/{name}.txt" for name in "abcd"]
    _an_edit_keeps_the_graph(home, skill)
    artifacts = rows(home, "SELECT * FROM skill_artifacts WHERE skill_id = :id ORDER BY id", id=skill.id)
    assert [(item["artifact_type"], item["name"]) for item in artifacts] == [
        *(("code", f"step_{number}") for number in (1, 2, 3, 4)),
        ("config", "parameters"),
        *(("data_schema", f"data/{name}.txt") for name in "abcd"),
    ]
    assert (artifacts[0]["is_template"], json.loads(artifacts[0]["template_variables"])) == (
        1, ["N_ITEMS", "a_file"],
    )  # fmt: skip
    assert json.loads(artifacts[4]["content"])["N_ITEMS"] == 4


def _an_edit_keeps_the_graph(home: Home, skill: Any) -> None:
    """Of an edit, the graph has the steps whose cells are still there; the run is not what it is compared with."""
    book = json.loads(skill.notebook.read_text())
    book["cells"] = [cell for cell in book["cells"] if cell["id"] not in ("step_3", "step_4")]
    place = home.path / "less.ipynb"
    place.write_text(json.dumps(book))
    less = skill.edit(place, liveness_s=0)
    assert (less.version, less.status, less.info.source_run_id) == (2, "active", None), less.info.verification
    assert [node["id"] for node in less.info.dag_template["nodes"]] == ["step_1", "step_2"]
    assert (less.info.dag_template["edges"], less.info.dag_template["parallel"]) == ([["step_1", "step_2"]], [])
    assert less.info.postconditions["files"] == ["data/a.txt", "data/b.txt"]


def test_a_range_brings_what_other_steps_made(home: Home) -> None:
    """Steps 2 to 4: what step 1 made is an input; an edge to it is none."""
    run_id = make_run(home, "Make, add, double, join.", DIAMOND)
    skill = extract(home.db, home.writer, home.path, run_id, name="later", steps="2-4", liveness_s=0)
    assert (skill.status, skill.info.steps) == ("active", ["step_2", "step_3", "step_4"]), skill.info.verification
    assert [path.name for path in skill.info.assets.rglob("*.txt")] == ["a.txt"]
    assert skill.parameters[0].kind == "input"
    assert ["step_1", "step_2"] not in skill.info.dag_template["edges"]
    with pytest.raises(StepsNotFound, match="step_9"):
        extract(home.db, home.writer, home.path, run_id, name="none", steps="4-9")


def test_steps_that_only_looked_are_left_out_unless_asked_for(home: Home) -> None:
    """They made no file; the last step stays, and so does one that is chosen."""
    steps = [
        Step("import os\nprint(os.listdir('.'))\n"),
        Step("N = 5\nUNUSED = 6\n" + write("n.txt", "N")),
        Step("print(open('data/n.txt').read())\n", depends_on=(2,)),
    ]
    run_id = make_run(home, "Look, then write.", steps)
    skill = extract(home.db, home.writer, home.path, run_id, name="writes", liveness_s=0)
    assert skill.info.steps == ["step_2", "step_3"], skill.info.verification
    provenance = json.loads(skill.notebook.read_text())["metadata"]["cmbagent_nb"]
    assert provenance["left_out"] == {"step_1": "it made no file that the results need"}
    assert provenance["dead_code"] == {"step_2": ["UNUSED"]}
    assert extract(home.db, home.writer, home.path, run_id, name="writes", steps="1-2", liveness_s=0).info.steps == [
        "step_1",
        "step_2",
    ]


def test_an_unfinished_run_has_its_finished_steps(home: Home) -> None:
    """The rest is told with its reason; a name that exists gets another version."""
    run_id = make_run(home, "Make, add, double, join.", DIAMOND[:2])
    home.writer.update("workflow_runs", run_id, {"status": "failed"})
    home.writer.insert(
        "workflow_steps",
        {"id": new_id(), "run_id": run_id, "node_id": "step_3", "step_number": 3, "status": "running"},
    )
    home.writer.barrier().result()
    for version in (1, 2):
        skill = extract(home.db, home.writer, home.path, run_id, name="half", liveness_s=0)
        assert (skill.version, skill.status, skill.info.steps) == (version, "active", ["step_1", "step_2"])
    assert skill.info.dag_template["left_out"] == {"step_3": "it is running"}


def test_a_branch_shares_its_parents_steps(home: Home) -> None:
    """Its own step reads what the parent had made; the parent's code comes with it."""
    parent = make_run(home, "Make, add, double, join.", DIAMOND[:2])
    own = [Step("FACTOR = 10\n" + write("e.txt", "FACTOR * 2"))]
    branch = make_run(home, "Make, then ten times.", own)
    home.writer.update("workflow_runs", branch, {"branch_parent_id": parent, "is_branch": True})
    step = rows(home, "SELECT id FROM workflow_steps WHERE run_id = :id", id=branch)[0]
    # The branch's own step is its second one, after the first of the parent's.
    for table in ("workflow_steps", "step_attempts", "execution_events", "files"):
        for row in rows(home, f"SELECT id FROM {table} WHERE run_id = :id", id=branch):
            home.writer.update(table, row["id"], {"node_id": "step_2"})
    home.writer.update("workflow_steps", step["id"], {"depends_on": ["step_1"], "step_number": 2})
    home.writer.barrier().result()
    record = read_record(home.db, branch)
    assert [item.node_id for item in record.steps] == ["step_1", "step_2"]
    assert "N_ITEMS" in record.steps[0].code
    skill = extract(home.db, home.writer, home.path, branch, name="branched", liveness_s=0)
    assert skill.status == "active", skill.info.verification
    assert {"N_ITEMS", "FACTOR"} <= {item.name for item in skill.parameters}
    # A record that names itself as its parent does not go on for ever.
    home.writer.update("workflow_runs", branch, {"branch_parent_id": branch})
    home.writer.barrier().result()
    assert [item.node_id for item in read_record(home.db, branch).steps] == ["step_2"]


def test_code_that_cannot_be_read_any_more_is_told(home: Home) -> None:
    """And nothing is left of the attempt."""
    run = make_run(home, "Write a.", [Step(write("a.txt", "1"))])
    for script in (home.path / "runs" / run).rglob("*.py"):
        script.write_bytes(b"\xff\x00 def (:")
    with pytest.raises(SkillError, match="code of step_1 cannot be read as Python"):
        extract(home.db, home.writer, home.path, run, name="a")
    assert not (home.path / "skills" / "a").exists()


def test_a_range_without_end_is_refused(home: Home) -> None:
    """It would take all memory to say which steps are not there."""
    run = make_run(home, "Write a.", [Step(write("a.txt", "1"))])
    with pytest.raises(StepsNotFound, match="more steps than a run has"):
        extract(home.db, home.writer, home.path, run, name="a", steps="1-99999999999")


def test_a_run_without_code_is_told(home: Home) -> None:
    """Before anything is made."""
    run_id = make_run(home, "Nothing.", [])
    with pytest.raises(SkillError, match="no step whose code succeeded"):
        extract(home.db, home.writer, home.path, run_id, name="nothing")
    assert not (home.path / "skills" / ".making").exists()
