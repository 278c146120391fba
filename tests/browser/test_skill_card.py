"""The card of a skill in a real JupyterLab: its form is filled in, wrong values start nothing, the skill runs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.harness import Lab, Notebook, browser_page, lab_server
from tests.held import extract
from tests.skill_runs import Home, Step, make_run

pytestmark = pytest.mark.browser

PICTURES = os.environ.get("CMBAGENT_TEST_PICTURES", "")
CARD = ".cmbv-skill"
CODE = """
import json

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

SLOPE = 2.5  # rise of the line per unit
N_POINTS = 40  # points of the line
LABEL = "a <b>line</b>"

x = np.linspace(0, 1, N_POINTS)
y = SLOPE * x
plt.plot(x, y, label=LABEL)
plt.legend()
plt.savefig("plots/line.png")
json.dump({"mean": float(y.mean()), "points": len(x)}, open("data/line.json", "w"))
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("lab")
    home = Home.open(folder / "home")
    run_id = make_run(home, "Draw a line of slope 2.5 with 40 points.", [Step(CODE, title="Draw the line")])
    skill = extract(home.db, home.writer, home.path, run_id, name="straight")
    assert skill.verified, skill.info.verification
    home.close()
    with lab_server(folder) as server:
        yield server


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    with browser_page() as page:
        yield page


def field(page: Any, name: str) -> Any:
    """The control of the parameter of this name."""
    row = page.locator(f"{CARD} .cmbv-field").filter(has=page.locator("code", has_text=re.compile(f"^{name}$")))
    return row.locator("input").first


def test_the_form_runs_the_skill(lab: Lab, page: Any) -> None:
    cells = ["%load_ext cmbagent_nb", 'import cmbagent_nb as cmb\ncmb.Workspace().skills.get("straight")']
    notebook = Notebook.open(page, lab, "card.ipynb", cells)
    notebook.run(0)
    notebook.run(1)
    page.wait_for_selector(f"{CARD} .cmbv-field")
    assert "verified" in page.locator(f"{CARD} .cmbv-pill").first.inner_text()
    keep(notebook, "card_light")

    field(page, "SLOPE").fill("steep")
    page.locator(f"{CARD} button", has_text="Run").click()
    wrong = page.locator(f"{CARD} .cmbv-wrong")
    wrong.wait_for()
    assert "SLOPE" in wrong.inner_text() and "a number" in wrong.inner_text()
    keep(notebook, "card_wrong")

    field(page, "SLOPE").fill("4")
    field(page, "N_POINTS").fill("11")
    page.locator(f"{CARD} button", has_text="Run").click()
    page.wait_for_selector(f"{CARD} img")
    page.locator(f"{CARD} summary", has_text="Runs of this version (1)").wait_for()
    assert wrong.count() == 0
    said = page.locator(CARD).inner_text()
    assert re.search(r"points\s+11", said) and re.search(r"mean\s+2", said), said
    assert "Runs of this version (1)" in said
    keep(notebook, "card_ran")
    notebook.theme("dark")
    page.set_viewport_size({"width": 760, "height": 1000})
    page.locator(f"{CARD} summary", has_text="Runs of this version").click()
    page.wait_for_function(
        "() => [...document.querySelectorAll('.cmbv-skill, .cmbv-skill *')].every("
        "e => e.scrollWidth <= e.clientWidth + 1 || getComputedStyle(e).overflowX !== 'auto')"
    )
    keep(notebook, "card_dark_narrow")
    page.set_viewport_size({"width": 1400, "height": 1000})
    notebook.theme("light")

    notebook.copied(1, "SLOPE")
    saved = notebook.save()
    static = "".join(str(output.get("data", {}).get("text/html", "")) for output in saved["cells"][1]["outputs"])
    assert "cmbv-saved" in static and "SLOPE" in static and "<b>line</b>" not in static
    errors = [text for kind, text in page.console_lines if kind == "pageerror"]
    assert not errors
    assert not page.foreign


def keep(notebook: Notebook, name: str) -> None:
    if PICTURES:
        notebook.picture(1, Path(PICTURES) / f"{name}.png")
