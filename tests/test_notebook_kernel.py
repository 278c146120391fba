"""The magics in a real kernel without a page: what a notebook that is run headless sees."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.notebook_kernel import Kernel, kernel
from tests.openai_server import OpenAIServer
from tests.team import APPROVED, Team, code, plan

HELLO = code("print('hello')", "hello.py")
#: What a cell could leave behind: rows and folders.
LEFT = "(len(Workspace().runs()), sorted(p.name for p in (Workspace().home / 'runs').glob('*')))"
MARKUP = "<img src=x onerror=alert(1)>"


class Held:
    """An answer that is given when the test says so."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.go = threading.Event()

    def __call__(self, request: dict[str, Any]) -> Any:
        assert self.go.wait(60)
        return self.answer


@pytest.fixture(scope="module")
def team() -> Team:
    return Team(
        plan=plan({"title": f"Greet {MARKUP}"}),
        review=APPROVED,
        code=HELLO,
        steps={f"Greet {MARKUP}": HELLO},
    )


@pytest.fixture(scope="module")
def nb(tmp_path_factory: pytest.TempPathFactory, team: Team) -> Iterator[Kernel]:
    folder = tmp_path_factory.mktemp("kernel")
    with OpenAIServer(team) as server:
        team.server = server  # type: ignore[attr-defined]
        environ = {
            "CMBAGENT_BASE_URL": server.url,
            "CMBAGENT_MODEL": "openai:test-model",
            "CMBAGENT_WORKSPACES_FILE": str(folder / "workspaces.json"),
        }
        with kernel(folder / "home", environ) as started:
            loaded = started.run("%load_ext cmbagent_nb")
            assert loaded.error is None
            yield started


def one_line_error(nb: Kernel, cell: str) -> str:
    """Run a cell that is wrong; its error is one line without a traceback."""
    outcome = nb.run(cell)
    assert outcome.error is not None, outcome
    assert len(outcome.error["traceback"]) == 1
    line: str = outcome.error["traceback"][0]
    assert "\n" not in line and "Traceback" not in line
    return line


def test_loading_says_one_line(nb: Kernel) -> None:
    loaded = nb.run("%reload_ext cmbagent_nb")
    assert loaded.error is None and loaded.text == ""
    (shown,) = loaded.data
    assert shown["text/plain"].startswith("cmbagent_nb ") and "\n" not in shown["text/plain"]
    assert "openai:test-model" in shown["text/plain"] and "workspace" in shown["text/plain"]


def test_a_cell_returns_at_once_and_the_static_copy_shows_the_end(nb: Kernel, team: Team) -> None:
    team.answers["code"] = held = Held(HELLO)
    started = nb.run("%%cmbagent --name greet\nSay hello.")
    assert started.error is None
    live, saved = started.data
    assert "application/vnd.jupyter.widget-view+json" in live and not live["text/html"]
    assert "application/vnd.jupyter.widget-view+json" not in saved and "<svg" in saved["text/html"]
    assert nb.value("run.finished") is False
    held.go.set()
    team.answers["code"] = HELLO
    ended = nb.run("await run\nprint(run.status, run.result.text.strip())")
    assert ended.text.strip().endswith("completed hello")
    again = nb.run("%cmbagent show greet")
    assert again.error is None, again.error
    html = again.updated()["text/html"]
    assert "completed" in html and "<svg" in html
    assert again.updated()["text/plain"].startswith("flowchart LR")


def test_the_last_state_is_there_when_the_waiting_cell_ends(nb: Kernel) -> None:
    """nbclient and papermill take updates only from the running cell, so both are in one here."""
    outcome = nb.run("%%cmbagent plan --wait --name waited\nGreet.")
    assert outcome.error is None, outcome.error
    html = outcome.updated()["text/html"]
    assert "completed" in html and "waited" in html
    assert MARKUP not in html and "&lt;img" in html
    assert nb.value("run.status") == "completed"


def test_the_mode_is_an_option_too(nb: Kernel) -> None:
    nb.run("%%cmbagent --mode plan --name by-option --wait\nGreet.")
    assert nb.value("run.name, run.mode, run.status") == ("by-option", "planning_and_control", "completed")


def test_variables_are_filled_into_the_task(nb: Kernel) -> None:
    nb.run("lmax = 1500")
    outcome = nb.run("%%cmbagent --wait --out other\nUse {lmax} and {{lmax}}, and report \\Omega_{m}.")
    assert outcome.error is None
    assert nb.value("other.task") == "Use 1500 and {lmax}, and report \\Omega_{m}."


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("%%cmbagent\n\n", ["no task"]),
        ("%%cmbagent plann\nGreet.", ["'plann'", "Did you mean plan?"]),
        ("%%cmbagent deeply\nGreet.", ["no mode", "Did you mean deep?"]),
        ("%%cmbagent --mode plann\nGreet.", ["'plann'", "Did you mean plan?"]),
        ("%%cmbagent --modell x\nGreet.", ["--modell", "--model"]),
        ("%%cmbagent --name 'x\nGreet.", ["quotation"]),
        ("%%cmbagent plan now\nGreet.", ["'now'", "below"]),
        ("%%cmbagent --model nobody:x\nGreet.", ["nobody"]),
        ("%%cmbagent --model anthropic:claude\nGreet.", ["anthropic"]),
        ("%%cmbagent --approve plam\nGreet.", ["plam"]),
        ("%%cmbagent --in lmaxx\nGreet.", ["lmaxx"]),
        ("%%cmbagent --out 1x\nGreet.", ["--out"]),
        ("%%cmbagent --max-attempts 0\nGreet.", ["max-attempts"]),
        ("%%cmbagent --work-dir /proc/nowhere\nGreet.", ["/proc/nowhere"]),
        ("%%cmbagent\nUse {lmaxxx}.", ["lmaxxx"]),
        ("%%cmbagent --wait --modell x\nGreet.", ["--modell"]),
        ("%cmbagent nothing", ["nothing"]),
        ("%cmbagent show no-such-run", ["no-such-run"]),
        ("%cmbagent show 'x", ["quotation"]),
    ],
)
def test_wrong_use_is_one_line_and_leaves_nothing(nb: Kernel, cell: str, words: list[str]) -> None:
    nb.run("lmax = 1500; from cmbagent_nb import Workspace")
    before = nb.value(LEFT)
    line = one_line_error(nb, cell)
    for word in words:
        assert word in line, line
    assert before == nb.value(
        "(len(Workspace().runs()), sorted(p.name for p in (Workspace().home / 'runs').glob('*')))"
    )


def test_interrupting_the_waiting_cell_does_not_lose_the_run(nb: Kernel, team: Team) -> None:
    team.answers["code"] = held = Held(HELLO)
    outcome = nb.run("%%cmbagent --wait --name kept\nSay hello.", interrupt_after=1.5)
    assert outcome.reply["status"] == "error"
    assert len(outcome.reply["traceback"]) == 1, outcome.reply["traceback"]
    assert "run kept goes on" in outcome.reply["traceback"][0]
    assert nb.value("run.name, run.finished") == ("kept", False)
    held.go.set()
    team.answers["code"] = HELLO
    assert nb.run("await run\nprint(run.status)").text.strip() == "completed"


def test_two_runs_at_once_keep_apart(nb: Kernel, team: Team) -> None:
    team.answers["code"] = held = Held(HELLO)
    nb.run("%%cmbagent --name one --out one\nSay hello.")
    nb.run("%%cmbagent --name two --out two\nSay hello.")
    held.go.set()
    ended = nb.run("await one; await two\nprint(one.status, two.status, one.id != two.id)")
    assert ended.text.strip() == "completed completed True"
    team.answers["code"] = HELLO
    assert nb.value("len(set(one.events().run_id) | set(two.events().run_id))") == 2
    first = nb.run("one").updated()["text/html"]
    second = nb.run("two").updated()["text/html"]
    assert ">one<" in first and ">two<" in second and ">two<" not in first


def test_a_gate_is_answered_by_the_magic(nb: Kernel) -> None:
    nb.run("%%cmbagent plan --approve plan --name gated\nGreet.")
    nb.until("run.approvals()")
    shown = nb.run("%cmbagent show gated").updated()["text/html"]
    assert "Approve the plan?" in shown and "%cmbagent approve" in shown
    approved = nb.run("%cmbagent approve gated")
    assert approved.error is None, approved.error
    assert nb.run("await run\nprint(run.status)").text.strip() == "completed"


def test_the_buttons_pause_and_resume_without_waiting(nb: Kernel, team: Team) -> None:
    team.answers["code"] = held = Held(HELLO)
    nb.run("%%cmbagent --name steered\nSay hello.")
    nb.run("from cmbagent_nb.notebook import view\n(shown,) = [v for v in view._open if v.run is run]")
    nb.run("pause, cancel, note = shown._controls.pause, shown._controls.cancel, shown._controls.note")
    nb.until("not pause.disabled")
    # The loop is kept busy: who waited for it within the click would wait, too.
    nb.run("import time; from cmbagent_nb.runtime import Runtime; Runtime.get().call_soon(lambda: time.sleep(1))")
    began, _, ended, label = nb.value("(time.monotonic(), pause.click(), time.monotonic(), pause.description)")
    assert (ended - began < 0.5, label) == (True, "Pausing…")
    nb.until("run.status == 'paused' and pause.description == '▶ Resume' and not pause.disabled")
    assert nb.value("note.value") == ""
    nb.run("pause.click()")
    nb.until("run.status == 'executing' and pause.description == '❚❚ Pause' and not pause.disabled")
    held.go.set()
    team.answers["code"] = HELLO
    assert nb.run("await run\nprint(run.status)").text.strip() == "completed"
    nb.until("all('cmbv-none' in button._dom_classes for button in (pause, cancel))")
    assert nb.value("all(getattr(b.comm, '_reply_subshell_for', None) is None for b in (pause, cancel))")


def test_views_end_with_their_runs(nb: Kernel) -> None:
    names = "[t.name for t in __import__('threading').enumerate() if t.name.startswith('cmbagent-view')]"
    limit = time.monotonic() + 10
    while nb.value(names) and time.monotonic() < limit:
        time.sleep(0.1)
    assert nb.value(names) == []


def test_a_new_kernel_names_the_runs_that_were_interrupted(tmp_path: Path) -> None:
    held = Held(HELLO)
    with OpenAIServer(Team(code=held)) as server:
        environ = {"CMBAGENT_BASE_URL": server.url, "CMBAGENT_MODEL": "openai:test-model"}
        with kernel(tmp_path / "home", environ) as first:
            first.run("%load_ext cmbagent_nb")
            first.run("%%cmbagent --name torn\nSay hello.")
            first.until("len(run.events())")
        held.go.set()
        with kernel(tmp_path / "home", environ) as second:
            second.run("%load_ext cmbagent_nb")
            second.until("__import__('cmbagent_nb').Workspace().run('torn').status == 'interrupted'")
            assert second.value("len(__import__('cmbagent_nb').Workspace().run('torn').events()) > 0")
            shown = second.run("%cmbagent show torn")
            assert shown.error is None
            assert "interrupted" in shown.updated()["text/html"]
            # The view of it can go on with it, says what is in the way, and follows it to its end.
            shown = second.run(
                "import os; from cmbagent_nb import Workspace; from cmbagent_nb.notebook.view import RunView\n"
                "old = Workspace().run('torn'); view = RunView(old).show(); button = view._controls.pause"
            )
            assert shown.error is None, shown.error
            second.until("not view._followed")
            assert second.value("button.description, button.disabled, 'cmbv-none' in button._dom_classes") == (
                "▶ Resume",
                False,
                False,
            )
            second.run("os.rename(old.work_dir, f'{old.work_dir}.away'); button.click()")
            second.until("'is not there' in view._controls.note.value")
            second.run("os.rename(f'{old.work_dir}.away', old.work_dir); view._went_on(old)")
            second.until("not view._followed and not button.disabled and 'cmbv-none' not in button._dom_classes")
            second.run("button.click()")
            second.until("view.run is not old and view.snapshot.run['status'] == 'completed'")
            second.until("not view._followed")
            assert second.value("view._controls.note.value, 'cmbv-none' in button._dom_classes") == ("", True)
            assert second.value("view._result in view._tabs.children")
