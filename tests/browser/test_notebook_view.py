"""The live view in a real JupyterLab: the quickstart's story, clicks while a cell is busy, reload, the saved file."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.harness import PATIENCE, Lab, Notebook, browser_page, holding, lab_server
from tests.openai_server import OpenAIServer
from tests.team import APPROVED, Team, code, plan

pytestmark = pytest.mark.browser

#: Where pictures are kept for looking at them; nowhere when it is not set.
PICTURES = os.environ.get("CMBAGENT_TEST_PICTURES", "")
MARKUP = "<img src=x onerror=\"document.title='broken in'\">"
LIVE = ".cmbv-live"
PILL = f"{LIVE} .cmbv-pill"
FIGURE = """
import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt
plt.plot([1, 3, 2]); plt.savefig("plots/line.png")
open("data/numbers.csv", "w").write("a,b\\n1,<script>document.title='broken in'</script>\\n")
print("done")
"""
#: Pixels of the graph's canvas in a colour, give or take what smoothing does.
PIXELS = """([red, green, blue]) => {
  let found = 0;
  for (const canvas of document.querySelectorAll(".cmbv-graphbox canvas")) {
    if (!canvas.width || !canvas.height) continue;
    const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    for (let i = 0; i < data.length; i += 4)
      if (data[i + 3] > 200 && Math.abs(data[i] - red) < 30 && Math.abs(data[i + 1] - green) < 30
          && Math.abs(data[i + 2] - blue) < 30) found += 1;
  }
  return found;
}"""
#: The place in the page of the leftmost pixel of a colour.
LEFTMOST = """([red, green, blue]) => {
  let best = null;
  for (const canvas of document.querySelectorAll(".cmbv-graphbox canvas")) {
    if (!canvas.width || !canvas.height) continue;
    const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    const place = canvas.getBoundingClientRect();
    for (let i = 0; i < data.length; i += 4) {
      const x = (i / 4) % canvas.width, y = Math.floor(i / 4 / canvas.width);
      if (data[i + 3] > 200 && Math.abs(data[i] - red) < 30 && Math.abs(data[i + 1] - green) < 30
          && Math.abs(data[i + 2] - blue) < 30 && (!best || x < best[2]))
        best = [place.x + x * place.width / canvas.width, place.y + y * place.height / canvas.height, x];
    }
  }
  return best.slice(0, 2);
}"""
GREEN, BLUE, AMBER, BRIGHT_GREEN = [21, 128, 61], [37, 99, 235], [180, 83, 9], [74, 222, 128]


class Held:
    """An answer that is given when the test says so."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.go = threading.Event()

    def __call__(self, request: dict[str, Any]) -> Any:
        assert self.go.wait(120)
        return self.answer


def new_team() -> Team:
    steps = (
        {"title": "Draw a line", "expected_outputs": ["plots/line.png"]},
        {"title": f"Other {MARKUP}"},
        {"title": "Both", "depends_on": [1, 2]},
    )
    return Team(
        plan=plan(*steps),
        review=APPROVED,
        code=code("print('hello')", "hello.py"),
        steps={
            "Draw a line": code(FIGURE, "line.py"),
            f"Other {MARKUP}": [code("{}['residual']", "other.py"), code("print(1)", "other.py")],
            "Both": code("print(2)", "both.py"),
        },
    )


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, Team, OpenAIServer]]:
    team = new_team()
    folder = tmp_path_factory.mktemp("lab")
    with OpenAIServer(lambda request: team(request)) as server:
        environ = {
            "CMBAGENT_BASE_URL": server.url,
            "CMBAGENT_MODEL": "openai:test-model",
            "CMBAGENT_HOME": str(folder / "home"),
            "CMBAGENT_WORKSPACES_FILE": str(folder / "workspaces.json"),
        }
        with lab_server(folder, environ) as lab:
            yield lab, team, server


@pytest.fixture
def lab(served: tuple[Lab, Team, OpenAIServer]) -> Iterator[Lab]:
    yield served[0]
    served[0].stop_sessions()


@pytest.fixture
def team(served: tuple[Lab, Team, OpenAIServer]) -> Team:
    fresh = new_team()
    served[1].__dict__.update(fresh.__dict__)
    return served[1]


@pytest.fixture
def server(served: tuple[Lab, Team, OpenAIServer]) -> OpenAIServer:
    return served[2]


def look(notebook: Notebook, index: int, name: str) -> None:
    if PICTURES:
        notebook.picture(index, Path(PICTURES) / f"{name}.png")


def status(page: Any, word: str, timeout: float = PATIENCE) -> None:
    page.locator(f"{PILL}:has-text('{word}')").first.wait_for(timeout=timeout * 1000)


def button(page: Any, text: str) -> Any:
    return page.locator(f"{LIVE} button:has-text('{text}')").first


def tab(page: Any, text: str) -> None:
    page.locator(f"{LIVE} .lm-TabBar-tabLabel:has-text('{text}')").first.click()


def painted(page: Any, colour: list[int], least: int = 20) -> None:
    """Wait until the graph's canvas has pixels of a colour."""
    limit = time.monotonic() + PATIENCE
    while (found := page.evaluate(PIXELS, colour)) < least:
        assert time.monotonic() < limit, f"{found} pixels of {colour}"
        page.wait_for_timeout(100)


def nothing_wrong(page: Any) -> None:
    """Nothing was asked of the network, nothing ran that a model wrote, no error but the known warnings."""
    assert page.foreign == []
    assert page.title() != "broken in"
    assert [line for line in page.console_lines if line[0] in {"error", "pageerror"}] == []


def no_sideways_scroll(page: Any, tab_name: str) -> None:
    script = (
        "() => [...document.querySelectorAll('.cmbv-frame, .cmbv-gate, .cmbv-tab, .cmbv-two')]"
        ".filter((e) => e.offsetWidth && e.scrollWidth > e.clientWidth + 1).map((e) => e.className)"
    )
    limit = time.monotonic() + 20
    while (wide := page.evaluate(script)) and time.monotonic() < limit:  # the page lays itself out anew
        page.wait_for_timeout(100)
    assert wide == [], tab_name


def test_the_story(lab: Lab, team: Team, server: OpenAIServer) -> None:
    busy, go = holding(lab, "story-goes-on")
    with browser_page() as page:
        notebook = Notebook.open(
            page,
            lab,
            "story.ipynb",
            [
                "%load_ext cmbagent_nb",
                f"%%cmbagent plan --approve plan --name story\nDraw {MARKUP}.",
                busy,
                "await run\nprint(run.status)",
            ],
        )
        notebook.run(0)
        assert notebook.text(0).startswith("cmbagent_nb ")
        team.answers["plan"] = held = Held(team.answers["plan"])
        notebook.start(1)
        pressed = time.monotonic()
        page.wait_for_selector(PILL)
        print(f"the view stood after {time.monotonic() - pressed:.2f} s")
        held.go.set()
        button(page, "Approve").wait_for()
        status(page, "waiting for you")
        painted(page, AMBER)
        look(notebook, 1, "gate")

        button(page, "Ask for changes").click()
        page.locator(f"{LIVE} .cmbv-error:has-text('Say what to change')").wait_for()
        asked = server.count
        page.locator(f"{LIVE} .cmbv-gate input").fill("Write the numbers down, too.")
        button(page, "Ask for changes").click()
        page.locator(f"{LIVE} .cmbv-gate code:has-text('%cmbagent approve')").wait_for()
        button(page, "Approve").wait_for()
        assert server.count > asked
        assert "Write the numbers down, too." in str([request.json for request in server.requests[asked:]])

        team.steps["Draw a line"] = line = Held(team.steps["Draw a line"])
        notebook.start(2)  # keeps the kernel's main thread busy
        page.wait_for_function("() => document.querySelectorAll('.jp-InputPrompt')[2].innerText.includes('*')")
        button(page, "Approve").click()
        clicked = time.monotonic()
        status(page, "running")
        print(f"Approve took effect after {time.monotonic() - clicked:.2f} s while another cell was busy")
        assert "*" in notebook.cell(2).locator(".jp-InputPrompt").first.inner_text()
        painted(page, BLUE)
        painted(page, GREEN)
        green = page.evaluate(PIXELS, GREEN)
        look(notebook, 1, "running")
        line.go.set()
        go.touch()
        notebook.done(2)
        notebook.run(3)
        assert notebook.text(3).strip() == "completed"
        status(page, "completed")
        painted(page, GREEN, green + 1)
        assert not button(page, "Cancel").is_visible()
        page.locator(f"{LIVE} .js-plotly-plot .bars").first.wait_for()
        look(notebook, 1, "completed")

        tab(page, "Files")
        page.locator(f"{LIVE} img[alt='line.png']").wait_for()
        page.locator(f"{LIVE} summary:has-text('numbers.csv')").click()
        numbers = page.locator(f"{LIVE} details:has(> summary:has-text('numbers.csv'))")
        assert "<script>" in numbers.locator("td").nth(1).inner_text()
        look(notebook, 1, "files")
        x, y = page.evaluate(LEFTMOST, GREEN)
        page.mouse.click(x + 20, y)
        page.locator(f"{LIVE} .cmbv-tab .cmbv-name:has-text('Planning')").wait_for()
        look(notebook, 1, "node")
        notebook.command("application:toggle-left-area")
        for width in (900, 600):
            page.set_viewport_size({"width": width, "height": 1000})
            for name in ("Timeline", "Files", "Messages", "Cost"):
                tab(page, name)
                no_sideways_scroll(page, name)
            look(notebook, 1, f"width-{width}")
        page.set_viewport_size({"width": 1400, "height": 1000})

        notebook.copied(1, "completed")
        saved = notebook.save()
        assert "widgets" not in saved["metadata"]
        assert (lab.folder / "story.ipynb").stat().st_size < 200_000
        copies = [output["data"] for output in saved["cells"][1]["outputs"] if "data" in output]
        html = "".join(copies[-1]["text/html"])
        assert "<svg" in html and "completed" in html and "waiting for you" not in html
        assert "".join(copies[-1]["text/plain"]).startswith("flowchart LR")
        nothing_wrong(page)

        # Opened again with a new kernel, the static copy is there and no remains of the live view are.
        lab.stop_sessions()
        page.goto(f"{lab.url}/lab/tree/story.ipynb?reset")
        notebook.ready()
        copy = notebook.cell(1).locator(".cmbv-saved svg").first
        copy.wait_for(state="visible")
        page.wait_for_timeout(1500)
        for text in ("Error displaying widget", "Loading widget"):
            assert not page.locator(f"text={text}").first.is_visible()
        look(notebook, 1, "opened-again")


def test_reload_and_cancel(lab: Lab, team: Team) -> None:
    """Dark theme; the page is reloaded in mid-run; Pause, Resume and Cancel are clicked while another cell is busy."""
    busy, go = holding(lab, "reload-goes-on")
    with browser_page() as page:
        notebook = Notebook.open(
            page,
            lab,
            "reload.ipynb",
            [
                "%load_ext cmbagent_nb",
                "%%cmbagent plan --name reload\nDraw.",
                busy,
                "%cmbagent show reload",
            ],
        )
        notebook.theme("dark")
        notebook.run(0)
        team.steps["Draw a line"] = code("import time; time.sleep(60)", "line.py")
        notebook.start(1)
        status(page, "running")
        notebook.save()
        notebook.reload()
        status(page, "running")
        painted(page, BRIGHT_GREEN)  # the canvas follows the theme
        assert page.evaluate(PIXELS, GREEN) == 0
        look(notebook, 1, "reloaded")
        notebook.start(2)
        page.wait_for_function("() => document.querySelectorAll('.jp-InputPrompt')[2].innerText.includes('*')")
        button(page, "Pause").click()
        clicked = time.monotonic()
        status(page, "paused")
        button(page, "Resume").wait_for()
        print(f"Pause took effect after {time.monotonic() - clicked:.2f} s")
        look(notebook, 1, "paused-dark")
        if PICTURES:
            notebook.theme("light")
            page.wait_for_timeout(500)
            look(notebook, 1, "paused-light")
            notebook.theme("dark")
        button(page, "Resume").click()
        status(page, "running")
        button(page, "Pause").wait_for()
        assert "*" in notebook.cell(2).locator(".jp-InputPrompt").first.inner_text()
        button(page, "Cancel").click()
        clicked = time.monotonic()
        status(page, "cancelled")
        print(f"Cancel took effect after {time.monotonic() - clicked:.2f} s")
        assert "*" in notebook.cell(2).locator(".jp-InputPrompt").first.inner_text()
        look(notebook, 1, "cancelled")
        go.touch()
        notebook.done(2)
        notebook.run(3)
        notebook.copied(3, "cancelled")
        saved = notebook.save()
        html = "".join("".join(output.get("data", {}).get("text/html", "")) for output in saved["cells"][3]["outputs"])
        assert "<svg" in html and "cancelled" in html
        nothing_wrong(page)


def test_clicks_arrive_while_the_cell_waits(lab: Lab, team: Team) -> None:
    with browser_page() as page:
        notebook = Notebook.open(
            page,
            lab,
            "wait.ipynb",
            ["%load_ext cmbagent_nb", "%%cmbagent plan --approve plan --wait --name waits\nDraw.", "print(run.status)"],
        )
        notebook.run(0)
        notebook.start(1)
        button(page, "Approve").wait_for()
        assert "*" in notebook.cell(1).locator(".jp-InputPrompt").first.inner_text()
        button(page, "Approve").click()
        notebook.done(1)
        status(page, "completed")
        notebook.run(2)
        assert notebook.text(2).strip() == "completed"
        nothing_wrong(page)
