"""Words that no command can do anything with: a line that says so, never an internal error."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import cmbagent_nb.verbs
from cmbagent_nb.agents.registry import read_agent
from cmbagent_nb.cli import main
from cmbagent_nb.errors import CMBAgentError, SettingsError, UsageError
from cmbagent_nb.llm.playbook import Playbook
from cmbagent_nb.settings import load_settings
from cmbagent_nb.verbs.declare import VERBS
from cmbagent_nb.workflow.run_options import number, read_mode, read_task

ODD = [
    "",
    " ",
    "\0",
    "~nouser_here/x",
    "x" * 5000,
    "\ud83d",
    "nan",
    "-1",
    "../..",
    "{x}",
    "%s%n",
    "'\"",
    "\u202e",
    "1" * 5000,
    "/",
]
assert cmbagent_nb.verbs  # which declares all of them
#: Commands that do long work, whatever they are given.
LONG = {"demo", "run", "doctor"}


@pytest.mark.parametrize("verb", sorted(set(VERBS) - LONG))
def test_odd_words_are_told_in_a_line(
    verb: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for word in ODD:
        for words in ([word], [word, word]):
            try:
                main([*verb.split(), *words])
            except SystemExit as stopped:
                assert stopped.code in (0, 2)
            said = capsys.readouterr()
            assert "Internal error" not in said.err, (words, said.err)
            assert "Traceback" not in said.err, (words, said.err)


@pytest.mark.parametrize("depth", [60, 5000, 100_000])
@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "x: [", '{"a": ['])
def test_files_nested_too_deeply(tmp_path: Path, depth: int, opening: str) -> None:
    path = tmp_path / "playbook.yaml"
    path.write_text(opening * depth)
    with pytest.raises(SettingsError):
        read_agent(path)
    with pytest.raises(CMBAgentError):
        Playbook.load(str(tmp_path) + "/")
    (tmp_path / "config.toml").write_text("step_timeout = " + "[" * depth)
    with pytest.raises(SettingsError):
        load_settings(tmp_path, {})


class Broken:
    def __repr__(self) -> str:
        raise RuntimeError("no\ntext")

    __str__ = __repr__

    def __float__(self) -> float:
        raise TypeError


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), -1, "x", "nan", None, [], {}, True, Broken(), 10**400, 1j]
)
def test_options_that_are_no_numbers(value: object) -> None:
    for name in ("step_timeout", "max_attempts", "max_cost_usd", "n_plan_reviews"):
        with pytest.raises(UsageError, match=name) as refused:
            number(**{name: value})
        assert "\n" not in str(refused.value)
    for read in (read_task, read_mode):
        if not isinstance(value, str):
            with pytest.raises(UsageError):
                read(value)  # type: ignore[arg-type]


SLOW = """
import importlib.abc, os, signal, sys, threading
class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "cmbagent_nb.workspace":
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                for _ in range(1000): pass
            except BaseException as error:
                if {swallow}:
                    return None
                raise ImportError("half imported") from error
        return None
sys.meta_path.insert(0, Finder())
from cmbagent_nb.cli import main
if {swallow}:
    import cmbagent_nb.verbs as verbs
    forever = threading.Event()
    verbs.execute = lambda *args, **more: forever.wait(100)
sys.exit(main(["runs"]))
"""


@pytest.mark.parametrize("swallow", [False, True])
def test_a_signal_within_an_import_ends_the_command(swallow: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SLOW.format(swallow=swallow)], capture_output=True, text=True, check=False, timeout=90,
        env=os.environ.copy(),
    )  # fmt: skip
    assert done.returncode in (143, -signal.SIGTERM), done.stderr
    assert done.stderr == "Terminated.\n"
