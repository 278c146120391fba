"""``SKILL.md``: what a skill is, in the open Agent Skills format that people and other programs read.

The format allows small letters, digits and single hyphens in a name, which is also the folder's; the library's own
name is kept in the metadata.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cmbagent_nb.skills.library import SkillRecord

_LONGEST_DESCRIPTION = 1024
_LONGEST_COMPATIBILITY = 500


def slug(name: str) -> str:
    """Return a name as the Agent Skills format wants it.

    >>> slug("Planck_TT.chi2"), slug("__")
    ('planck-tt-chi2', 'skill')
    """
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:64].strip("-") or "skill"


def write(skill: SkillRecord, row: dict[str, Any], licence: str = "") -> str:
    """Return the text of a skill's ``SKILL.md``."""
    import yaml

    front: dict[str, Any] = {"name": slug(skill.name), "description": _description(skill)}
    if licence:
        front["license"] = licence
    front["compatibility"] = _compatibility(row)
    front["metadata"] = {
        "cmbagent-name": skill.name,
        "cmbagent-version": str(skill.version),
        "tags": ", ".join(skill.tags),
        "made-by": str(row["made_by"]),
        "visibility": str(row["visibility"]),
    }
    text = yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=110)
    return f"---\n{text}---\n\n{_body(skill, row)}"


def _description(skill: SkillRecord) -> str:
    text = " ".join((skill.description or skill.task or f"The skill {skill.name}").split())
    values = [item.name for item in skill.parameters if item.kind == "value"]
    if values:
        text = f"{text.rstrip('.')}. Parameters: {', '.join(values)}."
    return text if len(text) <= _LONGEST_DESCRIPTION else text[: _LONGEST_DESCRIPTION - 1] + "…"


def _compatibility(row: dict[str, Any]) -> str:
    versions = packages(row)
    python = versions.pop("python", "")
    said = ", ".join(f"{name} {version}" for name, version in versions.items())
    text = f"Made with Python {python}" + (f", {said}" if said else "") + ". Needs papermill to run."
    return text[:_LONGEST_COMPATIBILITY]


def packages(row: dict[str, Any]) -> dict[str, str]:
    """Return the packages that a skill was made with, from its preconditions."""
    found = (row.get("preconditions") or {}).get("packages") or {}
    if isinstance(found, dict):
        return {str(name): str(version) for name, version in found.items()}
    return {}


def _body(skill: SkillRecord, row: dict[str, Any]) -> str:
    lines = [f"# {skill.name}", "", " ".join((skill.description or skill.task).split()) or skill.name, ""]
    if skill.task and skill.task.strip() != skill.description.strip():
        lines += ["It was made from a run of this task:", "", *(f"> {line}" for line in skill.task.splitlines()), ""]
    lines += ["## Parameters", ""]
    if skill.parameters:
        lines += ["| name | type | default | unit | meaning |", "|---|---|---|---|---|"]
        lines += [
            f"| `{item.name}` | {item.type} | `{_cell(repr(item.default))}` | {_cell(item.unit)} | {_cell(item.help)} |"
            for item in skill.parameters
        ]
    else:
        lines.append("None.")
    made = (row.get("postconditions") or {}).get("files") or []
    lines += ["", "## What it makes", "", *(f"- `{path}`" for path in made)] if made else []
    own = slug(skill.name)
    given = next((f" {item.name}={item.default!r}" for item in skill.parameters if item.kind == "value"), "")
    lines += [
        "",
        "## How to run it",
        "",
        "No model is called. Look at `notebook.ipynb` first: it is code that will run as you.",
        "",
        "- Anywhere with papermill and the packages above: "
        f"`python scripts/run.py{given}`, which prints the files that it made.",
        f"- With cmbagent_nb: `cmbagent skill import {own}`, `cmbagent skill trust {skill.name}`, "
        f"`cmbagent skill run {skill.name}{given}`.",
        "",
        "## How it was verified",
        "",
        _verified(skill, row),
        "",
    ]
    return "\n".join(lines)


def _verified(skill: SkillRecord, row: dict[str, Any]) -> str:
    report = row["verification"]
    if not report.get("verified"):
        return (
            "It was not verified: " + (" ".join(str(report.get("reason") or "").split()) or "no reason was kept") + "."
        )
    summary = " ".join(str(report.get("summary") or "").split())
    said = ", ".join(f"{name} {version}" for name, version in packages(row).items()) or row["made_by"]
    return (
        f"Run with its defaults in a fresh kernel when it was made ({said}): {summary}. "
        f"The files in `expected/` are what it made; `cmbagent skill verify {skill.name}` compares again."
    )


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("`", "'")
