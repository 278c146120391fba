"""The files beside the code: locks, constraints, the panel's sources, the continuous integration script."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from cmbagent_nb.render.status import LOOKS

ROOT = Path(__file__).parent.parent


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_requirement_of_every_extra_has_an_exact_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(need for needs in project["optional-dependencies"].values() for need in needs),
    ]
    names = {canonical(re.split(r"[\[<>=~! ;]", need)[0]) for need in wanted} - {"cmbagent-nb"}
    pinned = set()
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        found = re.fullmatch(r"([A-Za-z0-9._-]+)==([0-9][\w.+!]*)( ; .+)?", line)
        assert found, f"not an exact version: {line}"
        pinned.add(canonical(found[1]))
    assert names <= pinned


@pytest.mark.parametrize(
    "name", ["constraints.txt", "extension/yarn.lock", "extension/.yarnrc.yml", "extension/package.json"]
)
def test_no_lock_names_a_host(name: str) -> None:
    assert not re.search(r"https?:|file:/|//", (ROOT / name).read_text())


def test_the_lock_holds_the_versions_that_have_builds_for_every_platform() -> None:
    resolutions = json.loads((ROOT / "extension/package.json").read_text())["resolutions"]
    assert f'"@rspack/core@npm:{resolutions["@rspack/core"]}"' in (ROOT / "extension/yarn.lock").read_text()


def test_the_panel_shows_a_status_as_the_notebook_does() -> None:
    source = (ROOT / "extension/src/status.ts").read_text()
    shown = dict(re.findall(r"(\w+): \{ glyph: '([^']+)'", source))
    assert len(shown) > 10
    assert {name: LOOKS[name].glyph for name in shown} == shown


def test_the_panel_never_makes_markup_of_text() -> None:
    for path in (ROOT / "extension/src").glob("*.ts"):
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", path.read_text()), path


def test_the_panel_takes_its_colours_from_the_theme() -> None:
    style = (ROOT / "extension/style/index.css").read_text()
    fixed = set(re.findall(r"#[0-9a-fA-F]{3,8}\b", style))
    assert fixed == {"#16803c", "#12692f", "#fff"}, "only the button that goes on has a colour of its own"


def test_the_ci_script_runs_the_tests_and_reads_nothing() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "make test </dev/null" in script.read_text()
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0


def test_make_knows_its_targets() -> None:
    targets = ["demo", "lab", "test", "test-full", "bench", "lint", "panel", "dist"]
    # Below another make, as in `make test`, it would say which folder it enters.
    words = ["make", "--no-print-directory", "help"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert [line.split()[1] for line in done.stdout.splitlines()] == targets
    source = (ROOT / "Makefile").read_text()
    assert all(re.search(rf"^{target}:", source, re.M) for target in targets)
