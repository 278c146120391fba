"""Puts the starter skills into a workspace, once, when somebody first looks at its library.

| invariant | how |
|---|---|
| a skill of the user's is never touched | a name that is taken by another skill is passed over |
| one that the user deleted stays away | ``skills/.starter.json`` notes which were installed |
| a look at the library stays cheap | that note is compared with the shipped index, and nothing else is read |
| what they claim is what was done | the report says with which versions; ``skill verify`` does it here |
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import CMBAgentError
from cmbagent_nb.logs import get_logger

if TYPE_CHECKING:
    from cmbagent_nb.store.database import Database
    from cmbagent_nb.store.writer import Writer

FOLDER = Path(__file__).parent
TAG = "starter"
log = get_logger(__name__)
_NOTE = ".starter.json"
_MANIFEST = "manifest.json"


def shipped() -> list[Path]:
    """Return the folders of the starter skills, by name."""
    return sorted(item for item in FOLDER.iterdir() if (item / _MANIFEST).is_file())


@cache
def index() -> dict[str, str]:
    """Return what is shipped: the folder's name → the hash of its manifest."""
    return {item.name: hashlib.sha256((item / _MANIFEST).read_bytes()).hexdigest() for item in shipped()}


def install(db: Database, writer: Writer, home: Path) -> list[str]:
    """Install the starter skills that are not in the library yet; returns the names of the new ones.

    A shipped skill that is newer than the one installed before becomes its next version.
    """
    home = Path(home)
    note = home / "skills" / _NOTE
    if _read(note) == index():
        return []
    from filelock import FileLock

    note.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(note.with_suffix(".lock")):
        before = _read(note)
        if before == index():
            return []
        new, refused = [], dict[str, CMBAgentError]()
        for name in (name for name, own in index().items() if before.get(name) != own):
            try:
                if _put(db, writer, home, name, before):
                    new.append(name)
            except CMBAgentError as error:  # one that cannot be used does not keep the others away
                refused[name] = error
        done = {name: own for name, own in index().items() if name not in refused}
        making = note.with_suffix(".new")
        making.write_text(json.dumps({**before, **done}, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        making.replace(note)
    if refused:
        raise next(iter(refused.values()))
    return new


def problems() -> dict[str, str]:
    """Return why a starter skill of this installation cannot be used, by its name; nothing when all is well."""
    from cmbagent_nb.skills.sharing.importer import check
    from cmbagent_nb.skills.sharing.package import read_package

    found = {}
    for folder in shipped():
        try:
            check(read_package(folder), ours=True)
        except CMBAgentError as error:
            found[folder.name] = error.what
    return found


def _put(db: Database, writer: Writer, home: Path, name: str, before: dict[str, str]) -> bool:
    """Put one into the library, unless the user has deleted it or has a skill of that name."""
    from cmbagent_nb.skills.sharing.importer import check, import_package
    from cmbagent_nb.skills.sharing.package import read_package
    from cmbagent_nb.store.json import from_json

    rows = db.rows("SELECT meta FROM skills WHERE name = :name", name=name)
    if name in before and not rows:
        return False
    if any(((from_json(row["meta"]) or {}).get("trust") or {}).get("how") != TAG for row in rows):
        return False
    # Its notebook was checked when it was made; what checks one takes seconds to import.
    taken = check(read_package(FOLDER / name), ours=True)
    _, new = import_package(db, writer, home, taken, came_from="cmbagent_nb", source=TAG, trusted_how=TAG, tags=(TAG,))
    return new


def _read(note: Path) -> dict[str, str]:
    try:
        value: Any = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def install_quietly(db: Database, writer: Writer, home: Path) -> None:
    """Install them if that works: a library that cannot be written to can still be looked at."""
    try:
        install(db, writer, home)
    except (CMBAgentError, OSError) as error:  # `cmbagent doctor` says more
        log.warning("starter skills could not be installed: %s", error)
