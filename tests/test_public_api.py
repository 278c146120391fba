"""The width of the public API, and the names of 0.1 that work for one release."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

import cmbagent_nb as cmb
from cmbagent_nb import deprecation
from cmbagent_nb.workspace import Workspace


def public(holder: object) -> list[str]:
    return [name for name in dir(holder) if not name.startswith("_")]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setattr(deprecation, "_warned", set())
    return Workspace(tmp_path / "home")


def test_few_names(workspace: Workspace) -> None:
    assert len(public(workspace)) <= 20
    assert len(public(cmb.Skill)) <= 20
    assert cmb.errors.CMBAgentError is cmb.CMBAgentError


def test_an_old_name_warns_once_and_is_not_completed(workspace: Workspace) -> None:
    with pytest.warns(DeprecationWarning, match="use ws.skills.search") as caught:
        old = workspace.search_skills  # type: ignore[attr-defined]
    assert old.__func__ is type(workspace.skills).search and caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert workspace.search_skills  # type: ignore[attr-defined]
    assert "search_skills" not in dir(workspace)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = workspace.nothing  # type: ignore[attr-defined]


def test_the_library_can_still_be_called(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CMBAGENT_STARTER_SKILLS", "off")
    with pytest.warns(DeprecationWarning, match=r"ws\.skills\.list"):
        assert workspace.skills().empty
    workspace.close()
