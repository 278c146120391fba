"""Trust: a skill from elsewhere is code of a stranger. It is shown, and runs only after somebody said so.

| invariant | how |
|---|---|
| nothing of it runs before | whatever runs a skill asks :func:`require_trust` first |
| trust is for these files | it holds the hash of notebook and assets, which is checked before each run |
| it is known who said so | the record has the user, the time and how it came about |

A skill made in this workspace is the user's own and needs none of this.
"""

from __future__ import annotations

import html
import re
import time
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import SkillError, SkillUntrusted
from cmbagent_nb.tool_files import files_below, is_tool_file

if TYPE_CHECKING:
    from cmbagent_nb.skills.library import SkillRecord

#: Characters that a terminal or a browser obeys instead of showing them: they could hide code from who reads it.
_HIDING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


class SkillCode(str):
    """The code of a skill, to be read before it is trusted; a notebook shows it as it is."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return f'<pre class="cmbagent-skill-code" style="white-space:pre-wrap">{html.escape(self)}</pre>'


def code(skill: SkillRecord) -> SkillCode:
    """Return all code that a skill runs: the notebook's cells, and the modules among its assets; and what agents read.

    Characters that could hide a part of it from its reader stand as ``\\u001b``.
    """
    from cmbagent_nb.skills.notebook import read_notebook
    from cmbagent_nb.skills.source_hash import check_notebook

    parts = [f"# {skill.name} v{skill.version}, {skill.notebook}"]
    for cell in read_notebook(check_notebook(skill)).cells:
        if cell.cell_type == "code":
            tags = ", ".join(str(tag) for tag in cell.metadata.get("tags", []))
            parts.append(f"# ---- cell {_plain(cell.id)}{f' ({_plain(tags)})' if tags else ''}\n\n{cell.source}")
    assets = files_below(skill.assets)
    for path in assets:
        if path.suffix == ".py":
            name = path.relative_to(skill.assets).as_posix()
            parts.append(f"# ---- module {name}\n\n{path.read_text(encoding='utf-8', errors='replace')}")
    others = [path.relative_to(skill.assets).as_posix() for path in assets if path.suffix != ".py"]
    if others:
        parts.append("# ---- files that it gets: " + ", ".join(others))
    told = [skill.description, *(str(node.get("instructions") or "") for node in skill.dag_template.get("nodes", []))]
    words = "\n".join(f"# {line}" for text in told if text for line in str(text).splitlines())
    if words:
        parts.append(f"# ---- what agents are told when they fit it to a task\n{words}")
    return SkillCode("\n\n".join(_visible(part).rstrip() for part in parts) + "\n")


def _visible(text: str) -> str:
    return _HIDING.sub(lambda found: f"\\u{ord(found[0]):04x}", text.replace("\r\n", "\n"))


def _plain(text: Any) -> str:
    return " ".join(str(text).split())


def trust(skill: SkillRecord, *, how: str = "user") -> SkillRecord:
    """Let a skill from elsewhere run from now on; records who said so, when, and for which files.

    It becomes active if it was verified where it was made; ``skill verify`` does it again here.
    """
    from cmbagent_nb.skills.library import find
    from cmbagent_nb.skills.source_hash import check_notebook
    from cmbagent_nb.store.lookup import find_skill

    check_notebook(skill)
    row = find_skill(skill.db, skill.id)
    meta = dict(row["meta"] or {})
    if "origin" not in meta:
        return skill  # made here: it is the user's own
    if not hashes(skill) & {meta["origin"].get("content_hash"), meta["origin"].get("code_hash")}:
        raise _changed(skill)
    meta["trust"] = {"by": who(), "at": time.time(), "how": how, "content_hash": code_hash(skill)}
    status = "active" if skill.status == "draft" and skill.verified else skill.status
    skill.writer.update("skills", skill.id, {"trusted": True, "status": status, "meta": meta})
    skill.writer.barrier().result()
    return find(skill.db, skill.writer, skill.home, skill.id)


def require_trust(skill: SkillRecord, *, changed: bool = False) -> None:
    """Refuse a skill that is not trusted, or whose files are not those that were trusted.

    Parameters
    ----------
    changed
        Whether its user has changed it: what is made of it is the user's own.

    Raises
    ------
    SkillUntrusted
        The text says how to look at the code and how to trust it.
    """
    from cmbagent_nb.skills.source_hash import check_notebook
    from cmbagent_nb.store.lookup import find_skill

    row = find_skill(skill.db, skill.id)
    if not row["trusted"]:
        raise SkillUntrusted(
            f"skill {skill.name} v{skill.version} came from elsewhere and is not trusted",
            f"Look at its code (skill.code()), then trust it with %cmbagent skill trust {skill.name}.",
            skill=skill.name,
            version=skill.version,
        )
    meta = row["meta"] or {}
    if "origin" in meta and not changed and (meta.get("trust") or {}).get("content_hash") not in hashes(skill):
        check_notebook(skill)  # where its code was changed by its user, this says what can be done
        raise _changed(skill)


def hashes(skill: SkillRecord) -> set[str]:
    """Return what names the files that run, by their bytes and by their code alone."""
    files = _files(skill)
    from cmbagent_nb.skills.sharing.manifest import code_digest, digest

    return {digest(files), code_digest(files)}


def code_hash(skill: SkillRecord) -> str:
    """Return what names the code and the assets that run, whatever the notebook shows besides."""
    from cmbagent_nb.skills.sharing.manifest import code_digest

    return code_digest(_files(skill))


def _files(skill: SkillRecord) -> dict[str, bytes]:
    """Return the files that run: the notebook and the assets as they are now."""
    from cmbagent_nb.skills.sharing.package import ASSETS, NOTEBOOK

    try:
        files = {NOTEBOOK: skill.notebook.read_bytes()}
        for path in skill.assets.rglob("*"):
            if path.is_symlink():
                raise _changed(skill)
            if path.is_file() and not is_tool_file(path.relative_to(skill.assets)):
                files[ASSETS + path.relative_to(skill.assets).as_posix()] = path.read_bytes()
    except OSError as error:
        raise SkillError(
            f"the files of skill {skill.name} v{skill.version} cannot be read ({error.strerror})",
            "Import it again.",
            path=str(skill.folder),
        ) from error
    return files


def _changed(skill: SkillRecord) -> SkillUntrusted:
    return SkillUntrusted(
        f"the files of skill {skill.name} v{skill.version} are not those that were imported",
        "Import the skill again, look at its code, and trust that.",
        skill=skill.name,
        version=skill.version,
        path=str(skill.folder),
    )


def who() -> str:
    """Return the user's name and machine, as far as they are known."""
    import getpass
    import platform

    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):
        user = "?"
    return f"{user}@{platform.node() or '?'}"
