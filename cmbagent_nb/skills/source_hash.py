"""Tells whether the code of a skill's notebook is what was verified, whatever a notebook's user did besides.

Opening, running and saving a notebook in Jupyter changes outputs, counts, ids, metadata, widgets and the last newline;
an empty cell may be added at its end, and prose rewritten. None of that changes what a skill computes.
"""

from __future__ import annotations

import difflib
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from cmbagent_nb.errors import SkillError
from cmbagent_nb.skills.notebook import HASH_FORM, notebook_hash, running_cells

if TYPE_CHECKING:
    from cmbagent_nb.skills.library import SkillRecord

#: The copy of a skill's notebook as it entered the library.
VERIFIED = "verified.ipynb"
#: Lines of a difference that an error shows.
_SHOWN = 12


def is_same(text: str, known: str) -> bool:
    """Tell whether a notebook has the code for which this hash was made."""
    if known.startswith(HASH_FORM):
        return notebook_hash(text) == known
    return hashlib.sha256(text.encode()).hexdigest() == known


def check_notebook(skill: SkillRecord) -> str:
    """Return the text of a skill's notebook; refuse one that is gone or whose code was changed.

    Raises
    ------
    SkillError
        It cannot be read; or it was changed, and the text says where and what can be done.
    """
    try:
        text = skill.notebook.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        back = f"Put it back with %cmbagent skill edit {_named(skill)} --restore"
        raise SkillError(
            f"the notebook of skill {skill.name} v{skill.version} cannot be read ({why})",
            f"{back}, or run another version of it." if _copy(skill).is_file() else "Extract the skill again.",
            path=str(skill.notebook),
        ) from error
    if skill.notebook_hash and not is_same(text, skill.notebook_hash):
        lines = difference(skill, text)
        shown = "".join(f"\n{line}" for line in lines[:_SHOWN]) + ("\n…" if len(lines) > _SHOWN else "")
        edit = f"%cmbagent skill edit {_named(skill)}"
        restore = f", or put back what was verified with {edit} --restore" if _copy(skill).is_file() else ""
        raise SkillError(
            f"the notebook of skill {skill.name} v{skill.version} was changed after it was verified{shown}",
            f"Make the changed notebook its next version with {edit}{restore}.",
            path=str(skill.notebook),
            diff=lines,
        )
    return text


def is_changed(skill: SkillRecord) -> bool:
    """Tell whether the code of a skill's notebook is another than what was verified."""
    try:
        text = skill.notebook.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return True
    return bool(skill.notebook_hash) and not is_same(text, skill.notebook_hash)


def difference(skill: SkillRecord, text: str) -> list[str]:
    """Return how the code of a notebook differs from what was verified, line by line; nothing where that is lost."""
    try:
        before = _copy(skill).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return []

    def lines(each: str) -> list[str]:
        found = []
        for code, tags, _ in running_cells(each):
            found += [f"# cell ({', '.join(tags)})" if tags else "# cell", *code.splitlines()]
        return found

    found = list(difflib.unified_diff(lines(before), lines(text), "verified", "now", lineterm="", n=1))
    return found or ["what the metadata of its cells say was changed"]


def verified_text(skill: SkillRecord) -> str:
    """Return the notebook as it entered the library, without what was shown when somebody ran it."""
    current = check_notebook(skill)
    try:
        text = _copy(skill).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return current
    return text if is_same(text, skill.notebook_hash) else current


def restore(skill: SkillRecord) -> None:
    """Put back the notebook that was verified.

    Raises
    ------
    SkillError
        No copy of it was kept.
    """
    try:
        text = _copy(skill).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        text = ""
    if not text or not is_same(text, skill.notebook_hash):
        raise SkillError(
            f"no copy of the verified notebook of skill {skill.name} v{skill.version} was kept",
            f"Make the changed notebook its next version with %cmbagent skill edit {_named(skill)}.",
            path=str(skill.notebook),
        )
    temporary = skill.notebook.with_name(f".{skill.notebook.name}.part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(skill.notebook)


def _copy(skill: SkillRecord) -> Path:
    return skill.folder / VERIFIED


def _named(skill: SkillRecord) -> str:
    return f"{skill.name}@{skill.version}"
