"""What is shown of an output: as a terminal shows it, with both ends, and the last exception whole."""

from __future__ import annotations

import asyncio
import re
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmbagent_nb.execution.attempt_folder import prepare
from cmbagent_nb.execution.launcher import Limits, Outcome, launch
from cmbagent_nb.execution.terminal import as_shown, fold, fold_warnings, report, shorten, trim_traceback
from cmbagent_nb.workflow.judging import output_of
from cmbagent_nb.workspace import Workspace
from tests.openai_server import OpenAIServer, text_of
from tests.team import Team, code


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return prepare(tmp_path / "work", "step_1", 1)


def run(folder: Path, text: str) -> Outcome:
    script = folder / "codebase" / "script.py"
    script.write_text(textwrap.dedent(text), encoding="utf-8")
    return asyncio.run(launch(script, folder, limits=Limits(timeout_s=120)))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\rb\n", "b\n"),
        ("abc\rX\n", "Xbc\n"),
        ("abc\r\ndef\r\n", "abc\ndef\n"),
        ("10%\b\b\b20%\b\b\b30%", "30%"),
        ("long line here\r\x1b[Kshort\n", "short\n"),
        ("abcdef\x1b[3D\x1b[Kx", "abcx"),
        ("\x1b[31mred\x1b[0m text\x1b[1;4m!\n", "red text!\n"),
        ("one\ntwo\x1b[1A\rONE\x1b[1B\rTWO\n", "ONE\nTWO\n"),
        ("bar 1\nbar 2\n\x1b[2A\x1b[2Kbar 1 done\n\x1b[2Kbar 2 done\n", "bar 1 done\nbar 2 done\n"),
        ("\x1b]8;;http://x\x07link\x1b]8;;\x07\n", "link\n"),
        ("\x1b]0;title\x1b\\text", "text"),
        ("bell\x07 nul\x00\n", "bell nul\n"),
        ("\r\r\r", ""),
        ("\b\b", ""),
        ("plain  \n\ttext\n", "plain  \n\ttext\n"),
        ("é\rü\n", "ü\n"),
        ("x\x1b", "x"),
        ("\x1b[999999999Cx"[:4] + "A\rtop", "top"),
        ("12345\x1b[2Gx", "1x345"),
    ],
)
def test_controls_are_applied_as_a_terminal_does(text: str, shown: str) -> None:
    assert as_shown(text) == shown


@given(st.text(alphabet="ab \r\n\b\x1b[0123;KAGmC]8", max_size=80))
def test_whatever_is_printed_is_shown(text: str) -> None:
    """No text fails; what has been applied once stays as it is."""
    once = as_shown(text)
    assert as_shown(once) == once
    assert not re.search(r"[\r\b\x1b]", once)


@given(st.text(max_size=500), st.integers(min_value=80, max_value=400))
def test_a_shortened_text_has_its_ends_and_says_how_much_is_missing(text: str, limit: int) -> None:
    short = shorten(text, limit)
    if len(text) <= limit:
        assert short == text
        return
    told = re.search(r"\[… ([\d,]+) characters left out …\]\n", short)
    assert told is not None
    begin, end = short[: told.start()], short[told.end() :]
    assert text.startswith(begin.removesuffix("\n")) and text.endswith(end)
    left = int(told[1].replace(",", ""))
    assert left in (len(text) - len(begin) - len(end), len(text) - len(begin) - len(end) + 1)
    assert len(short) <= limit + 12


def test_repeated_lines_and_blocks_are_said_once() -> None:
    block = "x.py:3: RuntimeWarning: invalid value\n  y = np.sqrt(x)\n"
    assert fold("a\n" + block * 40 + "b\n") == "a\n" + block + "[… 39 more times …]\nb\n"
    assert fold("same\n" * 2) == "same\n" * 2
    assert fold("1 0\n2 0\n3 0\n") == "1 0\n2 0\n3 0\n"
    mixed = "".join(f"step {n}\n{block}" for n in range(5))
    shown = fold_warnings(mixed)
    assert shown.count("RuntimeWarning") == 1 and "4 more times" in shown
    assert [f"step {n}" in shown for n in range(5)] == [True] * 5
    numbered = "".join(f"WARNING: chi2 is {n}.5 at iteration {n}\nother {n}\n" for n in range(100))
    assert fold_warnings(numbered).count("WARNING") == 1


PROGRESS = """
    import sys
    print("columns: z mu sigma_mu host_mass")
    for n in range(500):
        sys.stderr.write(f"\\r{n / 5:5.1f}%|{'#' * (n // 10):50}| {n}/500 [00:00<00:01, 99.9it/s]")
    row = {"z": 1}
    row["mu_obs"]
"""


def test_a_progress_bar_does_not_hide_the_error(folder: Path) -> None:
    outcome = run(folder, PROGRESS)
    told = output_of(outcome)
    assert "columns: z mu sigma_mu host_mass" in told
    assert told.count("it/s") == 1 and "499/500" in told
    assert "KeyError: 'mu_obs'" in told and 'row["mu_obs"]' in told
    assert len(told) < 1000


@pytest.mark.parametrize(
    "noise",
    [
        "for n in range(200_000): sys.stderr.write(f'\\r{n}/200000 ' + '#' * 60)",
        "for n in range(20_000): print('iteration', n, 'of the chain', file=sys.stderr)",
        "for n in range(20_000): print('x' * 70, n)",
        "sys.stderr.write('z' * 3_000_000)",
        "[__import__('warnings').warn_explicit(f'bad value {n}', RuntimeWarning, 'f.py', n) for n in range(3000)]",
    ],
)
def test_the_exception_is_whole_behind_any_noise(folder: Path, noise: str) -> None:
    """Also when as much comes after it, at the end of the process, as before it."""
    outcome = run(
        folder,
        f"""
        import atexit, sys
        print("first line of output")
        def noise():
            {noise}
        atexit.register(noise)
        noise()
        def inner(values):
            return values["mu_obs"]
        try:
            inner({{}})
        except KeyError as error:
            raise RuntimeError("the table has no column mu_obs") from error
        """,
    )
    told = output_of(outcome)
    assert "KeyError: 'mu_obs'" in told
    assert "The above exception was the direct cause" in told
    assert "RuntimeError: the table has no column mu_obs" in told
    assert "first line of output" in told
    assert len(told) < 5000


def test_a_long_traceback_keeps_both_ends_and_every_exception(folder: Path) -> None:
    outcome = run(
        folder,
        """
        def a(n):
            return b(n - 1) if n else 1 / 0
        def b(n):
            return a(n - 1) if n else 1 / 0
        try:
            a(80)
        except ZeroDivisionError:
            try:
                b(61)
            except ZeroDivisionError as error:
                raise ValueError("long " * 3000 + "end of message") from error
        """,
    )
    shown = trim_traceback(outcome.traceback, 4000)
    assert shown.count("ZeroDivisionError") == 2 and "end of message" in shown
    assert "frames left out" in shown and "During handling" in shown
    assert len(shown) < 4100


def test_an_exception_group_is_whole(folder: Path) -> None:
    outcome = run(folder, "raise ExceptionGroup('both', [ValueError('first'), KeyError('second')])")
    told = output_of(outcome)
    assert "ValueError: first" in told and "KeyError: 'second'" in told and "ExceptionGroup: both" in told


def test_code_that_prints_its_traceback_and_exits_is_understood(folder: Path) -> None:
    outcome = run(
        folder,
        """
        import sys, traceback
        try:
            {}["a"]
        except KeyError:
            traceback.print_exc()
            sys.exit(1)
        """,
    )
    assert "KeyError: 'a'" in outcome.traceback and "KeyError" in output_of(outcome)


def test_both_streams_are_named_and_share_the_room() -> None:
    told = report("o" * 5000, "e" * 5000, "Traceback (most recent call last):\nKeyError: 'x'", 4000)
    assert told.index("[Standard output]") < told.index("[Standard error]") < told.index("[Exception]")
    assert told.count("characters left out") == 2 and told.endswith("KeyError: 'x'")
    assert len(told) < 4200
    assert report("only this\n", "", "", 4000) == "only this"
    assert report("", "", "", 4000) == ""


def test_the_retry_prompt_has_the_error_and_the_columns(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    team = Team(code=[code(textwrap.dedent(PROGRESS)), code("print('done')")])

    def handler(request: dict[str, object]) -> object:
        asked.append("\n".join(text_of(message) for message in request["messages"]))  # type: ignore[attr-defined]
        return team(request)

    with OpenAIServer(handler) as server:
        monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
        run = workspace.one_shot("Fit.", model="openai:m").wait(120)
    assert run.status == "completed", run.error
    assert len(asked) == 2
    assert "columns: z mu sigma_mu host_mass" in asked[1] and "KeyError: 'mu_obs'" in asked[1]
    assert len(re.findall(r"\d/500 \[", asked[1])) == 1
    shown = run.events().query("event_type == 'code_exec' and status == 'failed'").outputs.iloc[0]
    assert "columns" in str(shown) and len(re.findall(r"\d/500 \[", str(shown["stderr"]))) == 1
