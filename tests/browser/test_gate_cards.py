"""What one decides on is there whole: in the notebook's card, in the panel, on the command line, in the saved copy."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.harness import PATIENCE, Lab, Notebook, browser_page, lab_server
from tests.long_run import error_of, write_long_run
from tests.openai_server import OpenAIServer
from tests.team import APPROVED, Team, code, plan

pytestmark = pytest.mark.browser

PICTURES = os.environ.get("CMBAGENT_TEST_PICTURES", "")
LIVE = ".cmbv-live"
LAST = "shutil.rmtree(home)  # the last line"
#: A script of 150 lines whose harm is in its last line, with characters that hide something.
SCRIPT = "\n".join(
    [
        "import shutil",
        "home = 'nothing'  # \u202e}\u2066 the end\u2069 \u2066",
        "na\u200bme = 1",
        *(f"value_{number} = {number}  # {'a long remark ' * 6}" for number in range(1, 147)),
        f"if False: {LAST}",
    ]
)
HELLO = code("print('hello')", "hello.py")
BAD = plan({"title": "One"}, {"title": "Two", "depends_on": [1]}, {"title": "Three", "depends_on": [1, 2]})


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, Team]]:
    team = Team(plan=BAD, review=APPROVED, code=HELLO)
    folder = tmp_path_factory.mktemp("lab")
    with OpenAIServer(lambda request: team(request)) as server:
        environ = {
            "CMBAGENT_BASE_URL": server.url,
            "CMBAGENT_MODEL": "openai:test-model",
            "CMBAGENT_HOME": str(folder / "home"),
            "CMBAGENT_WORKSPACES_FILE": str(folder / "workspaces.json"),
        }
        with lab_server(folder, environ) as lab:
            yield lab, team


@pytest.fixture
def lab(served: tuple[Lab, Team]) -> Iterator[Lab]:
    yield served[0]
    served[0].stop_sessions()


@pytest.fixture
def team(served: tuple[Lab, Team]) -> Team:
    served[1].answers.update(plan=BAD, code=HELLO)
    served[1].steps.clear()
    served[1].asked.clear()
    return served[1]


def look(notebook: Notebook, index: int, name: str) -> None:
    if PICTURES:
        notebook.picture(index, Path(PICTURES) / f"{name}.png")


def shot(page: Any, name: str) -> None:
    if PICTURES:
        page.screenshot(path=str(Path(PICTURES) / f"{name}.png"))


def button(page: Any, text: str) -> Any:
    return page.locator(f"{LIVE} button:has-text('{text}')").first


def status(page: Any, word: str, timeout: float = PATIENCE) -> None:
    page.locator(f"{LIVE} .cmbv-pill:has-text('{word}')").first.wait_for(timeout=timeout * 1000)


def no_errors(page: Any) -> None:
    assert [line for line in page.console_lines if line[0] == "pageerror"] == []
    assert not page.foreign


def whole(text: str) -> None:
    """The last line is there, nothing is hidden, no line is missing."""
    assert LAST in text
    assert "⟨U+202E⟩" in text and "na⟨U+200B⟩me" in text and "⟨U+2066⟩" in text
    assert not re.search("[\u200b-\u200f\u202a-\u202e\u2066-\u2069]", text)
    assert [number for number in range(1, 147) if f"value_{number} = {number} " not in text] == []


def open_panel(page: Any) -> Any:
    page.locator('.lm-TabBar-tab[data-id="cmbagent-panel"]').click()
    panel = page.locator(".cmb-panel")
    panel.wait_for(state="visible")
    return panel


def test_the_whole_code_is_shown_wherever_it_is_approved(lab: Lab, team: Team) -> None:
    team.answers["code"] = [code(SCRIPT, "long.py"), HELLO]
    with browser_page() as page:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        cells = [
            "%load_ext cmbagent_nb",
            "%%cmbagent one_shot --approve tool --name whole\nGreet.",
            "%cmbagent approvals",
            "!{__import__('sys').executable} -m cmbagent_nb.cli approvals",
            "await run\nprint(run.status, run.steps().attempts.tolist())",
        ]
        notebook = Notebook.open(page, lab, "whole.ipynb", cells)
        notebook.run(0)
        notebook.start(1)
        card = page.locator(f"{LIVE} .cmbv-gate")
        card.wait_for()
        assert "Run this code? (long.py, step 1)" in card.inner_text()
        shown = card.locator("pre.cmbv-code")
        assert shown.is_visible()
        whole(shown.inner_text())
        assert shown.locator("span").last.get_attribute("data-n") == "150"
        assert shown.evaluate("e => e.scrollHeight > e.clientHeight && getComputedStyle(e).overflowY === 'auto'")
        look(notebook, 1, "gate_code_light")
        page.wait_for_function("() => document.querySelector('.cmbv-live .cmbv-frame')?.dataset.cmbvHears === 'yes'")
        card.locator(".cmbv-copy").click()
        card.locator(".cmbv-copy:has-text('Copied')").wait_for()
        whole(page.evaluate("() => navigator.clipboard.readText()"))

        notebook.run(2)
        whole(notebook.text(2))
        notebook.run(3)
        whole(notebook.text(3))

        notebook.copied(1, LAST)
        saved = notebook.save()
        html = "".join("".join(output.get("data", {}).get("text/html", "")) for output in saved["cells"][1]["outputs"])
        whole(re.sub(r"<[^>]*>", "", html).replace("&#x27;", "'"))

        notebook.theme("dark")
        look(notebook, 1, "gate_code_dark")
        panel = open_panel(page)
        gate = panel.locator(".cmb-gate")
        gate.wait_for()
        whole(gate.locator("pre").inner_text())
        shot(page, "gate_panel_dark")
        notebook.theme("light")
        shot(page, "gate_panel_light")
        gate.locator("textarea").fill("Greet, and nothing else.")
        gate.get_by_role("button", name="No, tell the engineer why").click()
        page.locator(f"{LIVE} .cmbv-gate:has-text('hello.py')").wait_for()
        button(page, "Run it").click()
        status(page, "completed")
        notebook.run(4)
        assert notebook.text(4).strip() == "completed [2]"
        page.locator(f"{LIVE} .lm-TabBar-tabLabel").nth(1).click()
        step = page.locator(f"{LIVE} .cmbv-tab:has(.cmbv-attempt)")
        step.locator(".cmbv-attempt").nth(1).wait_for()
        said = step.inner_text()
        assert "Greet, and nothing else." in said and "hello" in said
        whole(step.locator(".cmbv-attempt").first.locator("pre.cmbv-code").first.inner_text())
        look(notebook, 1, "step_refused")
        page.set_viewport_size({"width": 700, "height": 1000})
        look(notebook, 1, "step_refused_narrow")
        no_errors(page)


def test_what_the_panel_cannot_show_it_does_not_let_through(lab: Lab, team: Team) -> None:
    with browser_page() as page:

        def older(route: Any) -> None:
            answer = route.fetch()
            data = answer.json()
            for gate in data["approvals"]:
                gate["shown"]["parts"].append({"kind": "hologram", "title": "", "text": "x", "steps": []})
            route.fulfill(response=answer, body=json.dumps(data))

        page.route("**/approvals/pending*", older)
        cells = ["%load_ext cmbagent_nb", "%%cmbagent one_shot --approve tool --name other\nGreet."]
        notebook = Notebook.open(page, lab, "older.ipynb", cells)
        notebook.run(0)
        notebook.start(1)
        page.locator(f"{LIVE} .cmbv-gate").wait_for()
        panel = open_panel(page)
        gate = panel.locator(".cmb-gate")
        gate.wait_for()
        assert "Look at it in the notebook" in gate.inner_text()
        assert gate.get_by_role("button", name="Run it").count() == 0
        gate.get_by_role("button", name="Stop the run").click()
        status(page, "failed")


def test_a_rejected_plan_leaves_a_whole_graph(lab: Lab, team: Team) -> None:
    steps = [
        {"title": f"Step number {number}", "depends_on": [number - 1] if number > 1 else []} for number in range(1, 10)
    ]
    team.answers["plan"] = [plan(*steps), plan({"title": "Only"}, {"title": "Then", "depends_on": [1]}), plan(*steps)]
    with browser_page() as page:
        cells = [
            "%load_ext cmbagent_nb",
            "%%cmbagent plan --approve plan --name rejected\nGreet.",
            "print(run.status)",
        ]
        notebook = Notebook.open(page, lab, "rejected.ipynb", cells)
        notebook.run(0)
        notebook.start(1)
        card = page.locator(f"{LIVE} .cmbv-gate")
        card.wait_for()
        assert [f"Do Step number {number}." in card.inner_text() for number in range(1, 10)] == [True] * 9
        page.locator(f"{LIVE} .cmbv-graphbox canvas").first.wait_for()
        look(notebook, 1, "plan_9_light")
        for number, comment in enumerate(("shorter", "longer")):
            page.locator(f"{LIVE} .cmbv-gate input").fill(comment)
            button(page, "Ask for changes").click()
            wanted = "Only" if number == 0 else "Step number 9"
            page.locator(f"{LIVE} .cmbv-gate:has-text('{wanted}')").wait_for()
        button(page, "Reject").click()
        status(page, "cancelled")
        page.locator(f"{LIVE} .cmbv-gate").wait_for(state="detached")
        notebook.theme("dark")
        look(notebook, 1, "rejected_dark")
        notebook.theme("light")
        look(notebook, 1, "rejected_light")
        saved = notebook.save()
        html = "".join("".join(output.get("data", {}).get("text/html", "")) for output in saved["cells"][1]["outputs"])
        assert "not run" in html and "Step number 9" in html
        no_errors(page)


def test_after_a_kernel_restart_the_saved_copy_is_shown(lab: Lab, team: Team) -> None:
    with browser_page() as page:
        cells = [
            "%load_ext cmbagent_nb",
            "%%cmbagent plan --approve plan --name restarted\nGreet.",
            "%%cmbagent one_shot --name done --wait\nGreet.",
            "import cmbagent_nb as cmb\ncmb.Workspace().skills",
        ]
        notebook = Notebook.open(page, lab, "restart.ipynb", cells)
        notebook.run(0)
        notebook.start(1)
        page.locator(f"{LIVE} .cmbv-gate").wait_for()
        notebook.run(2)
        notebook.run(3)
        page.wait_for_selector(".cmbv-skill")
        page.evaluate(  # as the menu does it: the page knows
            "async () => { await window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart(); }"
        )
        for index, words in ((1, "%cmbagent show restarted"), (2, "%cmbagent show done"), (3, "%cmbagent skills")):
            copy = notebook.cell(index).locator(".cmbv-saved")
            copy.wait_for(state="visible")
            line = copy.locator(".cmbv-restarted")
            line.wait_for(state="visible")
            assert line.inner_text().strip() == f"The kernel was restarted. Show it live: {words}"
        page.wait_for_function(
            "() => ![...document.querySelectorAll('.jupyter-widgets-disconnected')].some(e => e.offsetWidth)"
        )
        for theme in ("dark", "light"):
            notebook.theme(theme)
            look(notebook, 1, f"restarted_run_{theme}")
            look(notebook, 3, f"restarted_library_{theme}")
        no_errors(page)


def test_a_run_of_300_steps_shows_each_step(lab: Lab, team: Team) -> None:
    write_long_run(lab.folder / "home", "long", 300)
    with browser_page() as page:
        cells = [
            "%load_ext cmbagent_nb",
            "import cmbagent_nb as cmb\nfrom cmbagent_nb.notebook.view import RunView\n"
            "view = RunView(cmb.Workspace().run('long')).show()\nNone",
            *(f"view._select('step_{number}')" for number in (2, 150, 300)),
        ]
        notebook = Notebook.open(page, lab, "long.ipynb", cells)
        notebook.run(0)
        notebook.run(1)
        status(page, "completed")
        page.locator(f"{LIVE} .js-plotly-plot .bars").first.wait_for()
        assert "The newest 200 of 2,100 events" in page.locator(f"{LIVE} .cmbv-events").inner_text()
        look(notebook, 1, "long_timeline")
        for index, number in enumerate((2, 150, 300), 2):
            notebook.run(index)
            step = page.locator(f"{LIVE} .cmbv-tab", has_text=error_of(number))
            step.locator(".cmbv-attempt").nth(1).wait_for()
            assert f"print('attempt 1 of step {number}')" in step.inner_text()
            assert f"out of step {number}" in step.inner_text()
        look(notebook, 1, "long_step_light")
        notebook.theme("dark")
        look(notebook, 1, "long_step_dark")
        no_errors(page)
