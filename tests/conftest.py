"""Keeps every test apart from the user's files, keys and servers, and gives it a real workspace."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from cmbagent_nb.workspace import Workspace

#: Variables of the machine that would change what a test does.
FOREIGN = ("CMBAGENT_", "OPENAI_", "ANTHROPIC_", "GEMINI_", "GOOGLE_API_KEY", "OLLAMA_")

#: Files that take long for their few tests: with several workers they begin first, so that none is left at the end.
LONG = (
    *("package_demo", "package_build", "copies", "crashes", "compose", "extraction", "skills_public_kinds", "resume"),
    *("learning_optimize", "ends", "playbooks", "starter", "shared_names", "state_machine", "skills_end_to_end"),
)

_confined = pytest.StashKey[tempfile.TemporaryDirectory[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Confine this process before anything opens a workspace: doctests and fixtures of modules and sessions, too."""
    # A busy machine is slow, which says nothing of what is tested.
    settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("any machine")
    folder = tempfile.TemporaryDirectory(prefix="cmbagent-tests-", ignore_cleanup_errors=True)
    config.stash[_confined] = folder
    for name in list(os.environ):
        if name.startswith(FOREIGN) and not name.startswith("CMBAGENT_TEST_"):
            del os.environ[name]
    os.environ |= {
        "CMBAGENT_HOME": f"{folder.name}/home",
        "CMBAGENT_WORKSPACES_FILE": f"{folder.name}/workspaces.json",
        "CMBAGENT_STARTER_SKILLS": "off",  # a library is empty unless a test fills it
        "OLLAMA_HOST": "127.0.0.1:9",  # a port where nothing answers
        "XDG_DATA_HOME": f"{folder.name}/data",
        "XDG_CONFIG_HOME": f"{folder.name}/config",
        "IPYTHONDIR": f"{folder.name}/ipython",
        "JUPYTER_CONFIG_DIR": f"{folder.name}/jupyter/config",
        "JUPYTER_DATA_DIR": f"{folder.name}/jupyter/data",
        "JUPYTER_RUNTIME_DIR": f"{folder.name}/jupyter/runtime",
    }


def pytest_unconfigure(config: pytest.Config) -> None:
    """Delete what the tests wrote in place of the user's files."""
    if _confined in config.stash:
        config.stash[_confined].cleanup()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take long first."""
    places = {f"test_{name}.py": place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONG)))


@pytest.fixture(autouse=True)
def _own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep each test apart from the others."""
    monkeypatch.setenv("CMBAGENT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CMBAGENT_WORKSPACES_FILE", str(tmp_path / "workspaces.json"))


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    """A workspace in a folder of its own, closed afterwards, whose writer had no fault."""
    opened = Workspace(tmp_path / "home")
    yield opened
    faults = opened._core.writer.faults
    opened.close()
    assert faults == 0, "the writer had rows that it could not store: see faults.jsonl"
