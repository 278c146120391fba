"""Keeps the list of workspaces that this user has opened, for the side panel."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import orjson

from cmbagent_nb.logs import get_logger
from cmbagent_nb.store.private import FILE, make_folder, open_private

log = get_logger(__name__)

#: Overrides where the list is kept.
VARIABLE = "CMBAGENT_WORKSPACES_FILE"

_LOCK_TIMEOUT = 10.0
_REFRESHED_EVERY = 3600.0
_MOST_KEPT = 200


def list_file() -> Path:
    """Return the path of the list."""
    if os.environ.get(VARIABLE):
        return Path(os.environ[VARIABLE])
    import platformdirs

    return Path(platformdirs.user_data_dir("cmbagent_nb", appauthor=False)) / "workspaces.json"


def opened(home: Path) -> None:
    """Note that the workspace in ``home`` has been opened; a list that cannot be written does no harm."""
    path = list_file()
    place = str(Path(home).absolute())
    now = time.time()
    if any(item["path"] == place and now - item["opened_at"] < _REFRESHED_EVERY for item in _read(path)):
        return
    from filelock import FileLock, Timeout

    try:
        make_folder(path.parent)
        with FileLock(path.with_suffix(".lock"), timeout=_LOCK_TIMEOUT, mode=FILE):
            others = [item for item in _read(path) if item["path"] != place and Path(item["path"]).is_dir()]
            content = {"workspaces": [{"path": place, "opened_at": now}, *others][:_MOST_KEPT]}
            fresh = path.with_suffix(f".{os.getpid()}.new")
            with open(fresh, "wb", opener=open_private) as file:
                file.write(orjson.dumps(content, option=orjson.OPT_INDENT_2))
            fresh.replace(path)
    except (OSError, Timeout) as error:
        log.warning("the list of workspaces %s cannot be written: %s", path, error)


def listed() -> list[Path]:
    """Return the folders of the workspaces that still exist, the one opened last first."""
    items = sorted(_read(list_file()), key=lambda item: -item["opened_at"])
    return [Path(item["path"]) for item in items if Path(item["path"]).is_dir()]


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        content = orjson.loads(path.read_bytes())
        return [{"path": str(item["path"]), "opened_at": float(item["opened_at"])} for item in content["workspaces"]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("the list of workspaces %s cannot be read: %s", path, error)
        return []
