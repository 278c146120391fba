"""Steps that use the same file names: each reads what those that it depends on wrote; conflicts are reported."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cmbagent_nb.render.parts import status_line
from cmbagent_nb.render.text import esc
from cmbagent_nb.run import Run
from cmbagent_nb.verbs.run import ended, summary
from cmbagent_nb.workspace import Workspace
from tests.openai_server import OpenAIServer
from tests.team import Team, code, plan
from tests.test_gates import until

NAMES = ("data/a.json", "data/b.json")

#: Says what it sees, writes its own versions, and fails as often as it is told to.
STEP = """
import json, pathlib, time
number, writes, fails, wait = {number}, {writes}, {fails}, {wait}
names = ("data/a.json", "data/b.json")
seen = {{name: json.load(open(name)) for name in names if pathlib.Path(name).exists()}}
own = sorted(str(path) for path in pathlib.Path("data").glob("seen_*.json"))
time.sleep(wait)
for name in writes:
    pathlib.Path(name).write_text(json.dumps({{"by": number, "after": seen.get(name, {{}}).get("by")}}))
tries = pathlib.Path({tries!r})
tries.open("a").write("x")
if len(tries.read_text()) <= fails:
    raise SystemExit(3)
pathlib.Path(f"data/seen_{{number}}.json").write_text(json.dumps({{"seen": seen, "own": own}}))
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """One workspace for many plans."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CMBAGENT_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("CMBAGENT_STARTER_SKILLS", "off")
        workspace = Workspace(tmp_path_factory.mktemp("home"))
        yield workspace
        workspace.close()


@st.composite
def plans(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Draw steps that depend on some of the steps before them, and write some of the names."""
    steps = []
    for number in range(1, draw(st.integers(3, 5)) + 1):
        before = draw(st.sets(st.integers(1, number - 1), max_size=3)) if number > 1 else set()
        writes = draw(st.sets(st.sampled_from(NAMES)))
        wait = draw(st.sampled_from([0, 0, 0.15]))
        steps.append({"before": sorted(before), "writes": sorted(writes), "wait": wait})
    return steps


def ancestors(steps: list[dict[str, Any]], number: int) -> set[int]:
    """Return the steps that a step depends on."""
    found: set[int] = set()
    for other in steps[number - 1]["before"]:
        found |= {other} | ancestors(steps, other)
    return found


def counting(steps: list[dict[str, Any]], name: str, among: Collection[int]) -> list[int]:
    """Return the steps whose versions of a name are not replaced by one that depends on them."""
    writers = [number for number in among if name in steps[number - 1]["writes"]]
    return [number for number in writers if not any(number in ancestors(steps, other) for other in writers)]


def team_of(steps: list[dict[str, Any]], folder: Path, fails: Mapping[int, int] = {}) -> tuple[dict[str, Any], Team]:
    """Return the plan and its agents."""
    made = plan(*({"title": f"Part {n}", "depends_on": step["before"]} for n, step in enumerate(steps, 1)))
    answers = {}
    for number, step in enumerate(steps, 1):
        tries = str(folder / f"tries_{number}")
        more = {"number": number, "writes": step["writes"], "wait": step["wait"], "fails": fails.get(number, 0)}
        answers[f"Part {number}"] = code(STEP.format(tries=tries, **more), "part.py")
    return made, Team(steps=answers)


def check(run: Run, steps: list[dict[str, Any]]) -> None:
    """Compare what each step saw with what it should have seen, and the reports with the conflicts there are."""
    assert run.status == "completed", run.error
    frame, errors = run.files(), run.events().query("event_type == 'error'")
    newest = frame.sort_values("version").groupby("file_path").last()
    everyone = range(1, len(steps) + 1)
    ambiguous = set()
    for number in everyone:
        before = ancestors(steps, number)
        told = json.loads((run.work_dir / f"data/seen_{number}.json").read_text())
        assert told["own"] == sorted(f"data/seen_{other}.json" for other in before)
        for name in NAMES:
            ends = counting(steps, name, before)
            assert told["seen"].get(name, {}).get("by") == (max(ends) if ends else None), (number, name)
            if len(ends) > 1:
                ambiguous.add((f"step_{number}", name))
    lines = run.result.conflicts
    for name in NAMES:
        ends = counting(steps, name, everyone)
        if not ends:
            continue
        assert json.loads((run.work_dir / name).read_text())["by"] == max(ends)
        assert newest.loc[name].node_id == f"step_{max(ends)}"
        assert any(line.startswith(f"{name}:") for line in lines) == (len(ends) > 1)
        for number in (number for number in everyone if name in steps[number - 1]["writes"]):
            row = frame[(frame.file_path == name) & (frame.node_id == f"step_{number}")].iloc[-1]
            assert json.loads((run.work_dir / row.source).read_text())["by"] == number
            rivals = {
                f"step_{other}"
                for other in everyone
                if name in steps[other - 1]["writes"] and other != number
                and other not in ancestors(steps, number) and number not in ancestors(steps, other)
            }  # fmt: skip
            assert set((row.conflict or "").split(", ")) - {""} == rivals
    reported = errors[errors.event_subtype == "ambiguous_input"]
    assert {(row.node_id, path) for row in reported.itertuples() for path in row.inputs["paths"]} == ambiguous
    published = errors[errors.event_subtype == "file_conflict"]
    assert {path for item in published.inputs for path in item["paths"]} == {
        name for name in NAMES if frame[frame.file_path == name].conflict.notna().any()
    }


SLOW = settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@SLOW
@given(steps=plans())
def test_every_step_reads_what_it_depends_on(
    shared: Workspace, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch,
    steps: list[dict[str, Any]],
) -> None:  # fmt: skip
    made, team = team_of(steps, tmp_path_factory.mktemp("tries"))
    with OpenAIServer(team) as server:
        monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
        run = shared.run_plan("Do the parts.", plan=made, model="openai:m").wait(300)
    check(run, steps)


#: Steps 1 and 3 write one name and do not depend on each other; step 4 depends on 1 and 2 only, step 5 on both.
FOUR = [
    {"before": [], "writes": [NAMES[0]], "wait": 0},
    {"before": [], "writes": [], "wait": 0.2},
    {"before": [], "writes": [NAMES[0]], "wait": 0},
    {"before": [1, 2], "writes": [NAMES[1]], "wait": 0},
    {"before": [1, 3], "writes": [], "wait": 0},
]


@pytest.mark.parametrize("mode", ["planning_and_control", "deep_research"])
@pytest.mark.parametrize("slow", [1, 3])
def test_whoever_is_last_the_later_step_of_the_plan_counts(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: int, mode: str
) -> None:
    steps = [step | {"wait": 0.3 if number == slow else step["wait"]} for number, step in enumerate(FOUR, 1)]
    made, team = team_of(steps, tmp_path)
    with OpenAIServer(team) as server:
        monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
        run = workspace.start("Do the parts.", mode=mode, plan=made, model="openai:m").wait(300)
    assert run.status == "completed", run.error
    seen = {n: json.loads((run.work_dir / f"data/seen_{n}.json").read_text())["seen"] for n in (4, 5)}
    assert seen[4][NAMES[0]]["by"] == 1
    assert seen[5][NAMES[0]]["by"] == 3
    assert sorted(run.files().query("file_path == 'data/a.json'").node_id) == ["step_1", "step_3"]
    assert json.loads((run.work_dir / NAMES[0]).read_text())["by"] == 3
    (line,) = run.snapshot().run["conflicts"]
    assert line.startswith("data/a.json was written by step_1 and step_3, which do not depend on each other.")
    assert "steps/step_1/attempt_1/data/a.json" in line
    assert esc(line) in status_line(run.snapshot())
    assert line in ended(summary(workspace, run))
    reads = next(link for link in run.lineage("data/seen_4.json") if link["kind"] == "code_exec")["reads"]
    assert {item["path"]: item["made_by"]["node_id"] for item in reads if item["made_by"]}[NAMES[0]] == "step_1"


def test_a_resumed_run_gives_the_same_versions(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Step 4 fails in the first process; another step has published the name of its input meanwhile."""
    made, team = team_of(FOUR, tmp_path, fails={4: 1, 1: 1})
    with OpenAIServer(team) as server:
        monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
        run = workspace.run_plan("Do the parts.", plan=made, model="openai:m", max_attempts=1).wait(300)
        assert run.status == "failed"
        run = workspace.resume(run.id).wait(300)
        if run.status == "failed":
            run = workspace.resume(run.id).wait(300)
    check(run, FOUR)


def test_what_a_redo_does_not_make_again_is_withdrawn(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = "open('data/a.json', 'w').write('{\"by\": 1}')"
    wrong = "open('data/a.json', 'w').write('{\"by\": 2}'); open('data/extra.txt', 'w').write('x')"
    right = "open('data/other.txt', 'w').write(open('data/a.json').read())"
    last = (
        "import os; open('data/seen.json', 'w').write(open('data/a.json').read())\n"
        "assert not os.path.exists('data/extra.txt')"
    )
    steps = {"One": code(first), "Two": [code(wrong), code(right)], "Three": code(last)}
    team = Team(steps=steps)
    made = plan({"title": "One"}, {"title": "Two", "depends_on": [1]}, {"title": "Three", "depends_on": [2]})
    with OpenAIServer(team) as server:
        monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
        run = workspace.run_plan("Do it.", plan=made, model="openai:m", approve="after_step")
        answered: set[str] = set()
        for resolution in ("approved", "redo", "approved", "approved"):
            until(run, lambda: {item["id"] for item in run.approvals()} - answered or run.finished)
            (gate,) = (item["id"] for item in run.approvals())
            answered.add(gate)
            run.approve(gate, resolution=resolution, feedback="Once more.")
        run.wait(300)
    assert run.status == "completed", run.error
    assert json.loads((run.work_dir / "data/seen.json").read_text()) == {"by": 1}
    assert json.loads((run.work_dir / "data/a.json").read_text()) == {"by": 1}
    assert not (run.work_dir / "data/extra.txt").exists()
    assert (run.work_dir / "steps/step_2/attempt_1/data/extra.txt").exists()
    assert "data/extra.txt" not in run.result.files


def test_a_report_takes_its_numbers_from_the_step_that_it_depends_on(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = {
        "One": code("open('data/x.json', 'w').write('{\"n\": 1}')"),
        "Two": code("open('data/x.json', 'w').write('{\"n\": 2}')"),
    }
    wait = {"title": "Wait", "depends_on": [2]}
    steps["Wait"] = code("print('waited')")
    made = plan({"title": "One"}, {"title": "Two"}, wait, {"title": "Report", "agent": "researcher", "depends_on": [1]})
    report = {"title": "R", "markdown": "n is {{ data/x.json#n }}."}
    with OpenAIServer(Team(steps=steps, report=report)) as server:
        monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
        run = workspace.run_plan("Do it.", plan=made, model="openai:m").wait(300)
    assert run.status == "completed", run.error
    assert "n is [1](" in run.result.text
    made_by = run.lineage("report.md")[0]["reads"][0]["made_by"]
    assert made_by["node_id"] == "step_1"
