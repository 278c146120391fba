"""The library of skills in a real JupyterLab: search as one types, match a task, open a card and run it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.harness import Lab, Notebook, browser_page, lab_server

pytestmark = pytest.mark.browser

PICTURES = os.environ.get("CMBAGENT_TEST_PICTURES", "")
ROWS = ".cmbv-skill .cmbv-row"
ANALYTICS = "cmb.Workspace().skills.analytics()"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab_server(tmp_path_factory.mktemp("lab"), {"CMBAGENT_STARTER_SKILLS": ""}) as server:
        yield server


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    with browser_page() as page:
        yield page


def test_a_skill_is_found_and_run(lab: Lab, page: Any) -> None:
    library = "import cmbagent_nb as cmb\ncmb.Workspace().skills"
    notebook = Notebook.open(page, lab, "library.ipynb", ["%load_ext cmbagent_nb", library, ANALYTICS])
    notebook.run(0)
    notebook.run(1)
    page.wait_for_selector(ROWS)
    assert page.locator(ROWS).count() >= 6
    keep(notebook, "library_light")

    search = page.locator(".cmbv-skill input[type=text]").first
    search.fill("chronometers")
    page.wait_for_function(f"() => document.querySelectorAll('{ROWS}').length === 1")
    search.fill("fit the expansion rate H(z) to cosmic chronometers")
    page.locator("button", has_text="Match task").click()
    page.wait_for_function("() => /skills? fits?|No skill fits/.test(document.body.innerText)")
    keep(notebook, "library_match")
    assert page.locator(ROWS).count() >= 1

    page.locator(f"{ROWS} button").first.click()
    page.wait_for_selector(".cmbv-open .cmbv-field")
    page.locator(".cmbv-open button", has_text="Run").click()
    page.wait_for_function("() => /completed in/.test(document.body.innerText)")
    notebook.theme("dark")
    page.set_viewport_size({"width": 760, "height": 1000})
    page.wait_for_timeout(300)
    keep(notebook, "library_dark_narrow")

    page.set_viewport_size({"width": 1400, "height": 1000})
    notebook.run(2)
    page.wait_for_selector(".js-plotly-plot .bars .point")
    said = notebook.text(2)
    assert "Most used" in said and "hz-fit" in said
    keep(notebook, "analytics_dark", 2)
    notebook.theme("light")
    page.wait_for_timeout(300)
    keep(notebook, "analytics_light", 2)
    assert not [text for kind, text in page.console_lines if kind == "pageerror"]
    assert not page.foreign


def keep(notebook: Notebook, name: str, cell: int = 1) -> None:
    if PICTURES:
        notebook.picture(cell, Path(PICTURES) / f"{name}.png")
