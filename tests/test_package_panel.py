"""Whether the panel is there, and what is said when it is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jupyter_core.paths import jupyter_path

from cmbagent_nb import panel

INSTALLED = any(Path(place, panel.PANEL, "package.json").is_file() for place in jupyter_path("labextensions"))
needs_install = pytest.mark.skipif(not INSTALLED, reason="the panel is not installed here: run `make panel`")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own configuration of Jupyter, empty."""
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    return tmp_path


@needs_install
def test_an_install_has_the_panel_switched_on(config: Path) -> None:
    assert panel.panel_status() == {"built": True, "enabled": True, "why": ""}


@needs_install
@pytest.mark.parametrize("disabled", [{"cmbagent-nb": True}, {"cmbagent-nb:panel": True}, ["cmbagent-nb"]])
def test_a_panel_that_is_switched_off_is_named_with_the_way_back(config: Path, disabled: object) -> None:
    (config / "labconfig").mkdir()
    (config / "labconfig" / "page_config.json").write_text(json.dumps({"disabledExtensions": disabled}))
    found = panel.panel_status()
    assert (found["built"], found["enabled"]) == (True, False)
    assert "jupyter labextension enable cmbagent-nb" in found["why"]


@needs_install
def test_a_server_part_that_is_switched_off_is_named_with_the_way_back(config: Path) -> None:
    off = {"ServerApp": {"jpserver_extensions": {panel.EXTENSION: False}}}
    (config / "jupyter_server_config.json").write_text(json.dumps(off))
    found = panel.panel_status()
    assert (found["built"], found["enabled"]) == (True, False)
    assert f"jupyter server extension enable {panel.EXTENSION}" in found["why"]


def test_a_panel_that_is_not_there_is_said_to_be_missing(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panel, "PANEL", "a-panel-that-nobody-made")
    found = panel.panel_status()
    assert (found["built"], found["enabled"]) == (False, False)
    assert "make panel" in found["why"]
