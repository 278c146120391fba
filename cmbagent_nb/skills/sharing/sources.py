"""A team's library: folders and git repositories from which skills are taken.

A source is looked at when somebody says so, never by itself. Each folder in it that holds a ``manifest.json`` is an
exported skill; so is each exported JSON file. A skill is copied by the hash of its content: what is in the library
already is not copied again, and what changed becomes a new version. One that is not there any more stays,
marked. Skills of a source that is not trusted are drafts until each is trusted.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import CMBAgentError, SkillError, UsageError
from cmbagent_nb.ids import new_id
from cmbagent_nb.settings import user_path
from cmbagent_nb.skills.library import find
from cmbagent_nb.skills.naming import check_name
from cmbagent_nb.skills.sharing import git
from cmbagent_nb.skills.sharing.importer import import_package, read
from cmbagent_nb.skills.sharing.package import MANIFEST, ROW
from cmbagent_nb.store.json import from_json

if TYPE_CHECKING:
    from cmbagent_nb.skills.library import SkillRecord
    from cmbagent_nb.store.database import Database
    from cmbagent_nb.store.writer import Writer

KINDS = ("folder", "git")
_DEPTH = 4
_MOST = 1000
_VISIBILITIES = ("private", "public")


@dataclass(frozen=True)
class Change:
    """Change of one skill of a source."""

    source: str
    skill: str
    version: int | None
    change: str
    trusted: bool
    detail: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return it as a row."""
        return asdict(self)


def sources(db: Database) -> list[dict[str, Any]]:
    """Return the sources, by name."""
    rows = db.rows("SELECT * FROM skill_sources ORDER BY name")
    return [{**row, "trusted": bool(row["trusted"])} for row in rows]


def add(
    db: Database, writer: Writer, name: str, location: str | Path, kind: str = "", *, trusted: bool = False
) -> None:
    """Add a source; see :meth:`Workspace.add_skill_source`."""
    check_name(name)
    text = os.fspath(location)
    if any(row["name"] == name for row in sources(db)):
        raise UsageError(f"there is a source {name} already", "Remove it first, or choose another name.", name=name)
    kind = kind or _kind(text)
    if kind not in KINDS:
        raise UsageError(f"a source is not of the kind {kind!r}", f"Choose one of {', '.join(KINDS)}.", kind=kind)
    if kind == "git":
        text = git.check_location(text)
    else:
        folder = user_path(text)
        if not folder.is_dir():
            raise UsageError(f"there is no folder {folder}", "Make it, or name another.", location=text)
        text = str(folder)
    now = time.time()
    row = {"id": new_id(), "name": name, "kind": kind, "location": text, "trusted": trusted, "created_at": now}
    writer.insert("skill_sources", row)
    writer.barrier().result()


def _kind(location: str) -> str:
    folder = user_path(location)
    bare = (folder / "HEAD").is_file() and (folder / "objects").is_dir()
    return "folder" if folder.is_dir() and not bare and not (folder / ".git").exists() else "git"


def remove(db: Database, writer: Writer, home: Path, name: str) -> None:
    """Forget a source and the copy of its repository."""
    row = _source(db, name)

    def forget(connection: Any) -> None:
        from cmbagent_nb.skills.rows import mark

        connection.exec_driver_sql(f"DELETE FROM skill_sources WHERE id = {mark(db)}", (row["id"],))

    writer.call(forget).result()
    shutil.rmtree(_copy(home, row["id"]), ignore_errors=True)


def _source(db: Database, name: str) -> dict[str, Any]:
    found = [row for row in sources(db) if row["name"] == name]
    if not found:
        names = ", ".join(row["name"] for row in sources(db)) or "none"
        raise UsageError(f"there is no source {name!r}", f"There are: {names}.", name=name)
    return found[0]


def _copy(home: Path, source_id: str) -> Path:
    return Path(home) / "skills" / ".sources" / source_id


def sync(db: Database, writer: Writer, home: Path, name: str | None = None) -> list[Change]:
    """Take what is new in the sources; a source that cannot be read is told as a row, and the others go on."""
    chosen = [_source(db, name)] if name is not None else sources(db)
    changes: list[Change] = []
    for row in chosen:
        try:
            changes += _sync(db, writer, Path(home), row)
        except CMBAgentError as error:
            if name is not None:
                raise
            changes.append(Change(row["name"], "", None, "refused", False, str(error)))
    return changes


def _sync(db: Database, writer: Writer, home: Path, row: dict[str, Any]) -> list[Change]:
    name, trusted = row["name"], row["trusted"]
    folder, commit = Path(row["location"]), ""
    if row["kind"] == "git":
        folder = _copy(home, row["id"])
        commit = git.fetch(row["location"], folder)
    elif not folder.is_dir():
        raise SkillError(f"the folder {folder} of the source {name} is not there", "Mount it, or remove the source.")
    changes, there = [], set()
    for place in _packages(folder):
        inside = place.relative_to(folder).as_posix()
        try:
            taken = read(place)
            others = db.rows("SELECT id FROM skills WHERE name = :name", name=taken.name)
            skill, new = import_package(
                db,
                writer,
                home,
                taken,
                came_from=f"{row['location']}#{commit}:{inside}" if commit else str(place),
                source=name,
                trusted_how=f"source {name}" if trusted else "",
            )
        except CMBAgentError as error:
            changes.append(Change(name, inside, None, "refused", False, str(error)))
            there.add(_told_name(place))  # it is there, though it cannot be taken
            continue
        there.add(skill.name)
        change = "same" if not new else "new version" if others else "new"
        changes.append(Change(name, skill.name, skill.version, change, skill.trusted, inside))
    changes += _mark_gone(db, writer, home, name, there)
    writer.update(
        "skill_sources", row["id"], {"synced_at": time.time(), "meta": {"commit": commit} if commit else None}
    )
    writer.barrier().result()
    return changes


def _packages(folder: Path) -> Iterator[Path]:
    """Go through the exported skills below a folder: folders with a manifest, and JSON files beside them."""
    found = 0
    stack = [(folder, 0)]
    while stack:
        here, depth = stack.pop()
        if here != folder and (here / MANIFEST).is_file() and (here / ROW).is_file():
            found += 1
            yield here
        elif depth < _DEPTH:
            for item in sorted(here.iterdir(), reverse=True):
                if item.is_symlink() or item.name.startswith("."):
                    continue
                if item.is_dir():
                    stack.append((item, depth + 1))
                elif item.suffix == ".json" and item.is_file() and _is_skill(item):
                    found += 1
                    yield item
        if found > _MOST:
            raise SkillError(f"{folder} holds more than {_MOST} skills", "Name a folder with fewer as the source.")


def _is_skill(path: Path) -> bool:
    with path.open("rb") as file:
        return b'"cmbagent-skill"' in file.read(200)


def _told_name(place: Path) -> str:
    """Return the name that a package which was refused gives itself."""
    path = place / ROW if place.is_dir() else place
    try:
        value = from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return str(value.get("name", "")) if isinstance(value, dict) else ""


def _mark_gone(db: Database, writer: Writer, home: Path, source: str, there: set[str]) -> list[Change]:
    """Mark the skills of a source that it has no more, and take the mark off those that are back."""
    changes = []
    for row in db.rows(
        "SELECT id, name, version, trusted, meta FROM skills WHERE meta IS NOT NULL ORDER BY name, version"
    ):
        meta = from_json(row["meta"]) or {}
        origin = meta.get("origin") or {}
        if origin.get("source") != source:
            continue
        gone = row["name"] not in there
        if gone != bool(origin.get("gone_at")):
            meta["origin"] = {**origin, "gone_at": time.time() if gone else None}
            writer.update("skills", row["id"], {"meta": meta})
        if gone:
            changes.append(
                Change(source, row["name"], row["version"], "gone", bool(row["trusted"]), "it stays in the library")
            )
    return changes


def publish(skill: SkillRecord, visibility: str = "public", *, to: str = "") -> SkillRecord:
    """Set a skill's visibility; with ``to``, export it into the folder of that source."""
    from cmbagent_nb.skills.sharing.export import export

    if visibility not in _VISIBILITIES:
        raise UsageError(
            f"{visibility!r} is no visibility", f"Choose one of {', '.join(_VISIBILITIES)}.", visibility=visibility
        )
    if to and visibility != "public":
        raise UsageError("a private skill is not put where others find it", "Publish it as public.", to=to)
    folder = None
    if to:
        row = _source(skill.db, to)
        if row["kind"] != "folder":
            raise UsageError(
                f"the source {to} is a repository, which is not written to",
                "Export the skill into a working copy of it, then commit and push.",
                to=to,
            )
        folder = Path(row["location"])
    skill.writer.update("skills", skill.id, {"visibility": visibility})
    skill.writer.barrier().result()
    skill = find(skill.db, skill.writer, skill.home, skill.id)
    if folder is not None:
        export(skill, folder / _folder_name(skill), overwrite=True)
    return skill


def _folder_name(skill: SkillRecord) -> str:
    from cmbagent_nb.skills.sharing.skill_md import slug

    return slug(skill.name)
