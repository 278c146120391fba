"""The side panel in a real JupyterLab: a run that another process owns is seen, decided on and cancelled."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cmbagent_nb.run import Run
from cmbagent_nb.workspace import Workspace
from tests.browser.harness import Lab, browser_page, lab_server
from tests.openai_server import OpenAIServer
from tests.team import APPROVED, Team, code, plan

pytestmark = pytest.mark.browser

#: Where pictures are kept for looking at them; nowhere when it is not set.
PICTURES = os.environ.get("CMBAGENT_TEST_PICTURES", "")
MARKUP = "<img src=x onerror=\"document.title='broken in'\">"


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any], None]]:
    """Make a scripted team the model of this process."""
    servers: list[OpenAIServer] = []

    def start(team: Any) -> None:
        server = OpenAIServer(team)
        server.__enter__()
        servers.append(server)
        monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)

    yield start
    for server in servers:
        server.__exit__(None, None, None)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with lab_server(tmp_path) as running:
        yield running


def open_panel(page: Any, lab: Lab) -> Any:
    page.goto(f"{lab.url}/lab?reset")
    page.locator('.lm-TabBar-tab[data-id="cmbagent-panel"]').click()
    panel = page.locator(".cmb-panel")
    panel.wait_for(state="visible")
    return panel


def picture(page: Any, name: str) -> None:
    if PICTURES:
        Path(PICTURES).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(Path(PICTURES, f"{name}.png")))


def theme(page: Any, name: str) -> None:
    page.evaluate(
        "async theme => { await window.jupyterapp.commands.execute('apputils:change-theme', { theme }); }",
        f"JupyterLab {name}",
    )
    page.wait_for_selector(f'body[data-jp-theme-name="JupyterLab {name}"]', state="attached")


def sideways(panel: Any) -> list[str]:
    """The elements of the panel that are wider than it is."""
    found: list[str] = panel.evaluate(
        "panel => [...panel.querySelectorAll(':not(.cmb-visually-hidden, textarea)')].filter("
        "node => node.scrollWidth > node.clientWidth + 1 && node.clientWidth && getComputedStyle(node).textOverflow"
        " !== 'ellipsis').map(node => node.className)"
    )
    return found


def until(condition: Callable[[], bool], seconds: float) -> float:
    """Wait for a condition in this process and return how long it took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, f"not within {seconds} s"
        time.sleep(0.01)
    return time.monotonic() - started


def start(workspace: Workspace, name: str, **options: Any) -> Run:
    return workspace.start(f"Count to three {MARKUP}", mode="plan", model="openai:test-model", name=name, **options)


def test_a_plan_is_sent_back_and_approved_in_the_panel(
    workspace: Workspace, lab: Lab, serve: Callable[[Any], None]
) -> None:
    first = plan({"title": f"Count {MARKUP}"})
    second = plan({"title": "Count"}, {"title": "Add", "depends_on": [1]})
    serve(Team(plan=[first, second], review=APPROVED, steps={"Count": code("print(3)"), "Add": code("print(6)")}))
    run = start(workspace, "counting", approve="plan")
    with browser_page(width=1000, height=900) as page:
        panel = open_panel(page, lab)
        gate = panel.locator(".cmb-gate")
        gate.wait_for()
        row = panel.locator(f'.cmb-run[data-run-id="{run.id}"]')
        panel.locator(f'.cmb-run[data-run-id="{run.id}"][data-status="waiting_approval"]').wait_for()
        assert "counting" in gate.inner_text()
        assert MARKUP in gate.locator("li").inner_text()
        assert not sideways(panel)
        picture(page, "panel_gate_light")

        gate.get_by_role("button", name="Ask for changes").click()
        assert "Say what to change" in gate.locator("[role=alert]").inner_text()
        comment = gate.locator("textarea")
        comment.fill("Add them up too")
        page.wait_for_timeout(3500)  # more than two polls: what is being written stays
        assert comment.input_value() == "Add them up too"
        gate.get_by_role("button", name="Ask for changes").click()
        panel.locator(".cmb-gate li", has_text="Add").wait_for()
        assert list(run.gates()["user_feedback"].dropna()) == ["Add them up too"]

        theme(page, "Dark")
        picture(page, "panel_gate_dark")
        panel.get_by_role("button", name="Approve").focus()
        page.keyboard.press("Enter")
        until(lambda: run.status != "waiting_approval", 60)
        run.wait(60)
        assert run.status == "completed", run.error
        panel.locator(f'.cmb-run[data-run-id="{run.id}"][data-status="completed"]').wait_for()
        assert panel.locator(".cmb-gate").count() == 0
        row.locator(".cmb-run-head").focus()
        page.keyboard.press("Enter")
        row.locator('.cmb-step[data-status="completed"]').nth(1).wait_for()
        assert re.findall(r"^\d (\w+)$", row.inner_text(), re.M) == ["Count", "Add"]
        assert MARKUP in row.inner_text()
        picture(page, "panel_steps_dark")
        assert panel.locator("img, script").count() == 0
        assert page.title() != "broken in"
        assert not [line for line in page.console_lines if line[0] in {"error", "pageerror"}]
        assert not page.foreign
    assert set(run.gates()["resolved_by"]) == {"you, over REST"}


def test_an_empty_panel_says_how_to_begin_and_a_run_can_be_cancelled_there(
    workspace: Workspace, lab: Lab, serve: Callable[[Any], None]
) -> None:
    started = threading.Event()

    def slow(request: Any) -> Any:
        started.set()
        return code("import time\ntime.sleep(300)")

    serve(Team(plan=plan({"title": "Wait"}), review=APPROVED, steps={"Wait": slow}))
    with browser_page(width=1000, height=700) as page:
        panel = open_panel(page, lab)
        panel.locator(".cmb-empty").wait_for(state="visible")
        assert "%load_ext cmbagent_nb" in panel.inner_text()
        picture(page, "panel_empty_light")
        run = start(workspace, "a-run-with-a-name-that-is-longer-than-the-panel-is-wide")
        row = panel.locator(f'.cmb-run[data-run-id="{run.id}"]')
        row.wait_for()
        assert not panel.locator(".cmb-empty").is_visible()
        assert started.wait(120)
        row.locator(".cmb-run-head").click()
        row.locator('.cmb-step[data-status="running"]').wait_for()
        assert not sideways(panel)
        picture(page, "panel_running_light")
        row.get_by_role("button", name="Cancel run").click()
        run.wait(60)
        assert run.status == "cancelled"
        panel.locator(f'.cmb-run[data-run-id="{run.id}"][data-status="cancelled"]').wait_for()
        assert not row.get_by_role("button", name="Cancel run").is_visible()


def test_a_gate_marks_the_tab_and_a_dead_server_is_named(
    workspace: Workspace, tmp_path: Path, serve: Callable[[Any], None]
) -> None:
    serve(Team(plan=plan({"title": "Count"}), review=APPROVED, steps={"Count": code("print(3)")}))
    with browser_page(width=1000, height=700) as page:
        with lab_server(tmp_path) as lab:
            run = start(workspace, "waiting", approve="plan")
            until(lambda: run.status == "waiting_approval", 120)
            page.goto(f"{lab.url}/lab?reset")
            tab = page.locator('.lm-TabBar-tab[data-id="cmbagent-panel"]')
            page.locator(".lm-TabBar-tab.cmb-tab-waiting").wait_for()
            assert "1 open gate" in (tab.get_attribute("title") or "")
            tab.click()
            page.locator(".cmb-gate").wait_for()
        fault = page.locator(".cmb-fault:visible")
        fault.wait_for(state="visible")
        assert "does not answer" in fault.inner_text()
        assert page.locator(".cmb-gate").is_visible(), "what was known stays"
    run.cancel()
    run.wait(60)


def test_the_skills_of_a_workspace_are_searched_in_the_panel(workspace: Workspace, lab: Lab) -> None:
    workspace.skills.install_starter()
    with browser_page(width=1000, height=900) as page:
        panel = open_panel(page, lab)
        panel.get_by_role("tab", name="Skills").click()
        rows = panel.locator(".cmb-skills .cmb-run")
        rows.first.wait_for()
        assert rows.count() == 6
        assert not sideways(panel)
        picture(page, "panel_skills_light")
        panel.get_by_role("searchbox").fill("chronometers")
        page.wait_for_function("() => document.querySelectorAll('.cmb-skills .cmb-run').length === 1")
        rows.first.locator(".cmb-run-head").click()
        assert "%cmbagent skill show hz-fit" in rows.first.inner_text()
        assert "W = -1" in rows.first.inner_text()
        theme(page, "Dark")
        picture(page, "panel_skills_dark")
        panel.get_by_role("searchbox").fill("no such words")
        panel.get_by_text("No skill has these words.").wait_for()
        panel.get_by_role("tab", name="Runs").click()
        panel.get_by_text("No runs yet").wait_for()
