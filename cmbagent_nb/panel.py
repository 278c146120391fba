"""Detects the side panel, for ``cmbagent doctor`` and ``%load_ext``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PANEL = "cmbagent-nb"
EXTENSION = "cmbagent_nb.server"


def panel_status() -> dict[str, Any]:
    """Tell whether the panel is installed, whether it is switched on, and if not, what to do.

    Returns ``{"built": bool, "enabled": bool, "why": str}``; ``why`` is empty when all is well.
    """
    if _panel_folder() is None:
        return {
            "built": False,
            "enabled": False,
            "why": "The JupyterLab panel is not installed. Run `make panel` in a checkout, else reinstall cmbagent-nb.",
        }
    if not _server_part_enabled():
        why = f"The server part is switched off. Run `jupyter server extension enable {EXTENSION}` and restart Jupyter."
        return {"built": True, "enabled": False, "why": why}
    if PANEL in _disabled():
        why = f"The panel is switched off. Run `jupyter labextension enable {PANEL}` and reload the page."
        return {"built": True, "enabled": False, "why": why}
    return {"built": True, "enabled": True, "why": ""}


def _panel_folder() -> Path | None:
    from jupyter_core.paths import jupyter_path

    places = (Path(place, PANEL) for place in jupyter_path("labextensions"))
    return next((place for place in places if (place / "package.json").is_file()), None)


def _server_part_enabled() -> bool:
    from jupyter_core.paths import jupyter_config_path
    from jupyter_server.extension.config import ExtensionConfigManager

    manager: Any = ExtensionConfigManager(read_config_path=jupyter_config_path())
    return bool(manager.get_jpserver_extensions().get(EXTENSION, False))


def _disabled() -> set[str]:
    """The lab extensions that a ``page_config.json`` of the user or of the installation switches off."""
    from jupyter_core.paths import jupyter_config_path

    names: dict[str, bool] = {}
    for place in reversed(jupyter_config_path()):
        try:
            found = json.loads(Path(place, "labconfig", "page_config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        disabled = found.get("disabledExtensions", {}) if isinstance(found, dict) else {}
        names.update(dict.fromkeys(disabled, True) if isinstance(disabled, list) else disabled)
    return {name.partition(":")[0] for name, off in names.items() if off}
