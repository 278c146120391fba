"""What every test stands on: a home of its own, no keys from outside, and a real workspace."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cmbagent_nb.workspace import Workspace

#: Variables of the machine that would change what a test does.
FOREIGN = ("CMBAGENT_", "OPENAI_", "ANTHROPIC_", "GEMINI_", "GOOGLE_API_KEY", "OLLAMA_")


@pytest.fixture(autouse=True)
def _own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep each test apart from the user's workspace, keys and servers."""
    for name in list(os.environ):
        if name.startswith(FOREIGN):
            monkeypatch.delenv(name)
    monkeypatch.setenv("CMBAGENT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CMBAGENT_WORKSPACES_FILE", str(tmp_path / "workspaces.json"))
    monkeypatch.setenv("CMBAGENT_STARTER_SKILLS", "off")  # a library is empty unless a test fills it
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")  # a port where nothing answers


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    """A workspace in a folder of its own, closed afterwards, whose writer had no fault."""
    opened = Workspace(tmp_path / "home")
    yield opened
    faults = opened.writer.faults
    opened.close()
    assert faults == 0, "the writer had rows that it could not store: see faults.jsonl"
