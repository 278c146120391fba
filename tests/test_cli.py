"""The command line as a process: what it prints where, its exit status, and what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from cmbagent_nb.cli import main
from cmbagent_nb.errors import GateError
from cmbagent_nb.run import Run
from cmbagent_nb.workspace import Workspace
from tests.openai_server import OpenAIServer, Status, in_turn
from tests.stored import Record
from tests.team import APPROVED, Team, code, plan

SQUARES = code("open('data/four.txt', 'w').write('4')\nprint('two times two is 4')\n", "four.py")
SLEEP = code("import time\nopen('data/started', 'w').close()\ntime.sleep(600)\n", "sleep.py")
ANSWER = {
    "run_id", "name", "status", "mode", "model", "work_dir", "result", "cost_usd", "model_calls", "tokens",
    "duration_s", "files", "error",
}  # fmt: skip

Serve = Callable[[Any], AbstractContextManager[OpenAIServer]]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Start a model server with a handler, and make it the one that is used, by other processes too."""

    @contextmanager
    def start(handler: Any) -> Iterator[OpenAIServer]:
        with OpenAIServer(handler) as server:
            monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
            monkeypatch.setenv("CMBAGENT_MODEL", "openai:test-model")
            yield server

    return start


@contextmanager
def process(*words: str) -> Iterator[subprocess.Popen[str]]:
    """Start the command in a process of its own, as a terminal would."""
    command = [sys.executable, "-m", "cmbagent_nb.cli", *words]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True) as started:
        try:
            yield started
        finally:
            started.kill()


def wait_for_line(stream: Any, part: str) -> list[str]:
    """Read lines until one has ``part``."""
    lines = []
    for line in stream:
        lines.append(line)
        if part in line:
            return lines
    raise AssertionError(f"{part!r} did not come: {lines}")


# ---- lightness and output


def test_help_imports_nothing_heavy() -> None:
    heavy = {
        "ag2",
        "pandas",
        "sqlalchemy",
        "sqlmodel",
        "alembic",
        "numpy",
        "pydantic",
        "IPython",
        "papermill",
        "psutil",
    }
    program = (
        "import sys; from cmbagent_nb.cli import main; status = main(['--help']);"
        f"print(status, sorted({heavy!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.strip() == "0 []"
    assert "cmbagent VERB --help" in done.stdout


def test_commands_that_read_import_nothing_heavy(tmp_path: Path) -> None:
    """A listing reads with the driver alone; an answer to a gate that is not there is refused as lightly."""
    workspace = Workspace(tmp_path)
    record = Record(workspace._core.writer, status="completed")
    workspace._core.writer.update("workflow_runs", record.run, {"work_dir": str(tmp_path / "runs" / "planck")})
    event = record.event("model_call", agent_name="engineer")
    record.cost("engineer", event=event)
    record.message("done")
    record.settle()
    workspace.close()
    heavy = {"pandas", "sqlalchemy", "sqlmodel", "alembic", "numpy", "pydantic", "IPython", "plotly"}
    program = (
        "import sys; from cmbagent_nb.cli import main\n"
        "for line in sys.stdin.read().splitlines():\n"
        f"    status = main(line.split()); print(line, status, sorted({heavy!r} & set(sys.modules)), file=sys.stderr)"
    )
    commands = (
        "runs runs@--json status steps nodes events events@--json messages files costs history checkpoints decisions"
        " show approvals"
    )
    lines = [*(words.replace("@", " ") for words in commands.split()), "approve planck"]
    done = subprocess.run(
        [sys.executable, "-c", program],
        input="\n".join(lines),
        env={**os.environ, "CMBAGENT_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    said = [line for line in done.stderr.splitlines() if line.endswith("[]")]
    assert said == [*(f"{line} 0 []" for line in lines[:-1]), f"{lines[-1]} {GateError.exit_status} []"], done.stderr


def test_version_and_help_of_a_verb(capsys: pytest.CaptureFixture[str]) -> None:
    from cmbagent_nb._version import __version__

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"cmbagent_nb {__version__}\n"
    assert main(["run", "--help"]) == 0
    assert "CMBAGENT_GATES" in capsys.readouterr().out


def test_run_prints_one_object(serve: Serve, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with serve(in_turn(SQUARES)):
        assert main(["run", "Two times two", "--work-dir", str(tmp_path / "here"), "--name", "four", "--json"]) == 0
    shown = capsys.readouterr()
    made = json.loads(shown.out)
    assert set(made) >= ANSWER
    assert made["result"] == "two times two is 4"
    assert (made["status"], made["mode"], made["model"]) == ("completed", "one_shot", "openai:test-model")
    assert (made["model_calls"], made["tokens"], made["cost_usd"], made["error"]) == (1, 120, None, None)
    assert made["work_dir"] == str(tmp_path / "here")
    assert "data/four.txt" in made["files"]
    assert all((tmp_path / "here" / path).is_file() for path in made["files"])
    assert shown.err == ""


def test_a_run_that_fails_has_exit_status_1(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    with serve(lambda request: Status(401)):
        assert main(["run", "Two times two", "--json"]) == 1
    made = json.loads(capsys.readouterr().out)
    assert made["status"] == "failed"
    assert "401" in made["error"]
    assert main(["status"]) == 0
    assert "401" in capsys.readouterr().out


def test_progress_goes_to_stderr_and_the_result_to_stdout(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    with serve(in_turn(SQUARES)):
        assert main(["run", "Two times two"]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("two times two is 4\n")
    assert "● 1 Two times two  engineer · running" in shown.err
    assert "✔ 1 Two times two  engineer · 2 files" in shown.err


def test_what_a_model_wrote_cannot_steer_the_terminal(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    evil = code("print('\\x1b]0;owned\\x07 clean \\x1b[2J\\x9b31m')\n", "evil.py")
    with serve(in_turn(evil)):
        assert main(["run", "Write \x1b[31mred", "--name", "evil"]) == 0
    main(["show", "evil"])
    shown = capsys.readouterr()
    assert "clean" in shown.out
    assert not {"\x1b", "\x07", "\x9b"} & set(shown.out + shown.err)


def test_a_terminal_without_unicode(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    with serve(in_turn(code("print('χ² = 3')\n", "chi.py"))):
        with process("run", "χ²", "--json") as started:
            out, err = started.communicate(timeout=60)
        assert started.returncode == 0, err
        assert json.loads(out)["result"] == "χ² = 3"
        with process("show") as started:
            out, err = started.communicate(timeout=60)
        assert started.returncode == 0, err
        assert "? completed" in out or "completed" in out


def test_a_reader_that_goes_away_is_no_error(serve: Serve) -> None:
    with serve(in_turn(SQUARES)):
        assert main(["run", "Two times two", "--json"]) == 0
    with process("events", "--json") as started:
        started.stdout.close()  # type: ignore[union-attr]
        assert started.wait(60) == 0
        assert started.stderr.read() == ""  # type: ignore[union-attr]


# ---- wrong use


def one_line(capsys: pytest.CaptureFixture[str], words: list[str], status: int = 2) -> str:
    assert main(words) == status
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("cmbagent: ")
    assert shown.err.count("\n") == 1
    assert "%cmbagent" not in shown.err
    assert "Traceback" not in shown.err
    return shown.err


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ([], "There is no task"),
        (["x", "--mode", "swarm"], "no mode 'swarm'. Modes are one_shot, plan and deep"),
        (["x", "--model", "openai:gpt-5"], "needs an API key in OPENAI_API_KEY. Set OPENAI_API_KEY"),
        (["x", "--model", "hal-9000"], "'hal-9000' is not known. Write provider:name"),
        (["x", "--model", "playbook:planck"], "Did you mean playbook:planck-desi?"),
        (["x", "--model", "playbook:planck-desi"], "recorded replies for another task"),
        (["x"], "There is no model, and no playbook was recorded for this task. Set one with --model"),
        (["x", "--in", "table.csv"], "'table.csv' and there is no such file"),
        (["x", "--approve", "sometimes"], "no gate called 'sometimes'. Gates are plan"),
        (["x", "--max-cost", "-1"], "'-1' is not an amount"),
        (["x", "--wat"], "--wat"),
    ],
)
def test_wrong_use_is_one_line_and_leaves_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: list[str], what: str
) -> None:
    assert what in one_line(capsys, ["run", *words])
    runs = tmp_path / "home" / "runs"
    assert not runs.exists() or not any(runs.iterdir())
    assert not (tmp_path / "home" / "cmbagent.db").exists()


def test_a_work_dir_that_cannot_be_used(serve: Serve, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with serve(in_turn()) as server:
        line = one_line(capsys, ["run", "x", "--work-dir", str(tmp_path / "file" / "below")])
        assert "Choose another with --work-dir" in line
        assert server.count == 0
    assert (tmp_path / "file").read_text() == "in the way"
    assert not any((tmp_path / "home" / "runs").iterdir())
    assert Workspace()._core.db.rows("SELECT * FROM workflow_runs") == []
    Workspace().close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_the_right_to_write(serve: Serve, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with serve(in_turn()):
        one_line(capsys, ["run", "x", "--work-dir", str(tmp_path / "locked")])


def test_a_workspace_that_cannot_be_made(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("CMBAGENT_HOME", str(tmp_path / "file" / "home"))
    assert "CMBAGENT_HOME" in one_line(capsys, ["runs"])


@pytest.mark.parametrize("verb", ["runs", "run x", "show", "config", "approvals"])
def test_a_broken_config_is_told_with_its_line(capsys: pytest.CaptureFixture[str], tmp_path: Path, verb: str) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "config.toml").write_text('model = "auto"\nmax_attempts = = 3\n')
    line = one_line(capsys, verb.split())
    assert "config.toml is not valid TOML" in line
    assert "line 2" in line
    assert sorted(path.name for path in (tmp_path / "home").iterdir()) == ["config.toml"]


def test_a_database_of_a_newer_version(serve: Serve, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    Workspace()._core.db.rows("SELECT 1")
    Workspace().close()
    with closing(sqlite3.connect(tmp_path / "home" / "cmbagent.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    for words in (["runs"], ["run", "x"]):
        with serve(in_turn()):
            line = one_line(capsys, words)
        assert "newer" in line
        assert "Update cmbagent_nb" in line
    runs = tmp_path / "home" / "runs"
    assert not runs.exists() or not any(runs.iterdir())


def test_a_run_id_that_matches_two_runs(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    ids = []
    for _ in range(2):
        with serve(in_turn(SQUARES)):
            assert main(["run", "Two times two", "--json"]) == 0
        ids.append(json.loads(capsys.readouterr().out)["run_id"])
    line = one_line(capsys, ["show", ids[0][:3]])
    assert all(run_id[-8:] in line for run_id in ids)
    assert "Give more of the id" in line


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--debug", "show", "none"], ["show", "none", "--debug"]):
        assert main(words) == 2
        shown = capsys.readouterr().err
        assert "Traceback" in shown
        assert shown.splitlines()[-1].startswith("cmbagent: No run matches 'none'")


# ---- several processes


def run_of(name: str, seconds: float = 30.0) -> Run:
    """Return a run of another process once it is in the record."""
    ws = Workspace()
    from cmbagent_nb.errors import RunNotFound

    pause = threading.Event()
    for _ in range(int(seconds / 0.05)):
        try:
            return ws.run(name)
        except RunNotFound:
            pause.wait(0.05)
    raise AssertionError(f"there is no run {name}")


def test_ctrl_c_cancels_the_run(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    with serve(in_turn(SLEEP)), process("run", "Sleep", "--name", "sleeper") as started:
        wait_for_line(started.stderr, "running")
        started.send_signal(signal.SIGINT)
        out, err = started.communicate(timeout=30)
    assert started.returncode == 130
    assert "⊘ sleeper: cancelled" in out
    assert "Traceback" not in err
    assert main(["status", "sleeper", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "cancelled"


def test_a_gate_is_answered_from_another_process(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    team = Team(plan=plan({"title": "Only"}), review=APPROVED, steps={"Only": SQUARES})
    words = ["run", "Two times two", "--mode", "plan", "--approve", "plan", "--name", "gated", "--json"]
    with serve(team), process(*words) as started:
        lines = wait_for_line(started.stderr, "cmbagent approve ")
        assert any("1. Only (engineer)" in line for line in lines)
        assert main(["approve", "gated", "--feedback", "go on"]) == 0
        assert "gated: " in capsys.readouterr().out
        out, err = started.communicate(timeout=60)
    assert started.returncode == 0, err
    assert json.loads(out)["status"] == "completed"
    assert main(["decisions", "gated", "--json"]) == 0
    (decision,) = json.loads(capsys.readouterr().out)
    assert (decision["resolution"], decision["resolved_by"]) == ("approved", "command line")
    assert decision["user_feedback"] == "go on"


def test_gates_can_be_answered_by_the_environment(
    serve: Serve, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CMBAGENT_GATES", "approve")
    team = Team(plan=plan({"title": "Only"}), review=APPROVED, steps={"Only": SQUARES})
    with serve(team):
        assert main(["run", "Two times two", "--mode", "plan", "--approve", "plan", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["mode"] == "planning_and_control"


def test_cancel_from_another_process(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    with serve(in_turn(SLEEP)), process("run", "Sleep", "--name", "sleeper", "--json") as started:
        run = run_of("sleeper")
        assert main(["cancel", "sleeper", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["status"] == "cancelled"
        out, _ = started.communicate(timeout=30)
    assert started.returncode == 1
    assert json.loads(out)["run_id"] == run.id


def test_pause_and_resume_from_another_process(
    serve: Serve, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with serve(in_turn(once_asleep(tmp_path / "slept"))), process("run", "Sleep", "--name", "sleeper") as started:
        wait_for_line(started.stderr, "running")
        until(tmp_path / "slept")
        assert main(["pause", "--now", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["status"] == "paused"
        assert main(["resume", "sleeper"]) == 0
        assert "sleeper: " in capsys.readouterr().out
        assert started.wait(30) == 0
        assert "awake" in started.stdout.read()  # type: ignore[union-attr]
    assert "no run is going on" in one_line(capsys, ["pause"]).lower()


def test_a_run_whose_process_was_killed_is_shown_as_interrupted_and_resumed(
    serve: Serve, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with serve(in_turn(once_asleep(tmp_path / "slept"))) as server:
        with process("run", "Sleep", "--name", "sleeper") as started:
            wait_for_line(started.stderr, "running")
            until(tmp_path / "slept")
            started.kill()
            started.wait(30)
            assert main(["status", "sleeper", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["status"] == "interrupted"
        assert main(["resume", "sleeper", "--json"]) == 0
        made = json.loads(capsys.readouterr().out)
        assert (made["status"], made["result"]) == ("completed", "awake")
        assert server.count == 1
        assert "completed" in one_line(capsys, ["resume", "sleeper"], status=1)


def once_asleep(mark: Path) -> dict[str, Any]:
    """An engineer's reply whose code sleeps the first time that it runs."""
    return code(
        f"import pathlib, time\nmark = pathlib.Path({str(mark)!r})\n"
        "if not mark.exists():\n    mark.touch()\n    time.sleep(600)\nprint('awake')\n",
        "sleep.py",
    )


def until(mark: Path) -> None:
    """Wait for a file of another process."""
    pause = threading.Event()
    for _ in range(600):
        if mark.exists():
            return
        pause.wait(0.05)
    raise AssertionError(f"{mark} was not made")
