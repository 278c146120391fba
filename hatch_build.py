"""Ship the built panel, if there is one: building and installing need neither Node nor JupyterLab."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PanelHook(BuildHookInterface[Any]):
    """Add ``cmbagent_nb/labextension`` (made by ``make panel``) where JupyterLab looks for it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Put the panel's files and ``install.json`` under ``share/jupyter/labextensions``."""
        panel = Path(self.root, "cmbagent_nb", "labextension")
        if self.target_name == "wheel" and (panel / "package.json").is_file():
            home = "share/jupyter/labextensions/cmbagent-nb"
            build_data["shared_data"][str(panel)] = home
            build_data["shared_data"][str(Path(self.root, "extension", "install.json"))] = f"{home}/install.json"
