"""The library: skills by name and version, in a table and a folder each.

``<home>/skills/<name>/v<version>/`` holds ``notebook.ipynb``, ``assets/`` and
``verification.json``; ``<home>/skills/<name>/runs/`` what its executions made.
"""

from __future__ import annotations

import html
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.ids import new_id
from cmbagent_nb.redaction import scrub
from cmbagent_nb.skills import naming, source_hash
from cmbagent_nb.skills.model import Parameter
from cmbagent_nb.store.private import make_folder, tighten

if TYPE_CHECKING:
    from cmbagent_nb.store.connection import Connection
    from cmbagent_nb.store.database import Database
    from cmbagent_nb.store.writer import Writer

NOTEBOOK = "notebook.ipynb"
ASSETS = "assets"
VERIFICATION = "verification.json"


@dataclass(frozen=True)
class SkillRecord:
    """A version of a skill as it is stored; users hold it as a :class:`~cmbagent_nb.skills.handle.Skill`."""

    id: str
    name: str
    version: int
    status: str
    parameters: list[Parameter]
    description: str
    tags: list[str]
    task: str
    source_run_id: str | None
    steps: list[str]
    verification: dict[str, Any]
    notebook_hash: str
    trusted: bool
    folder: Path
    created_at: float
    usage_count: int = 0
    success_count: int = 0
    failure_count: int = 0
    avg_execution_time_s: float | None = None
    input_schema: dict[str, Any] = field(default_factory=dict)
    output_schema: dict[str, Any] = field(default_factory=dict)
    preconditions: dict[str, Any] = field(default_factory=dict)
    dag_template: dict[str, Any] = field(default_factory=dict)
    postconditions: dict[str, Any] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    db: Database = field(repr=False, compare=False, kw_only=True)
    writer: Writer = field(repr=False, compare=False, kw_only=True)
    home: Path = field(repr=False, compare=False, kw_only=True)

    @property
    def notebook(self) -> Path:
        """The notebook's place."""
        return self.folder / NOTEBOOK

    @property
    def assets(self) -> Path:
        """The folder of the skill's inputs."""
        return self.folder / ASSETS

    @property
    def verified(self) -> bool:
        """Whether its defaults reproduce the files of its run."""
        return bool(self.verification.get("verified"))

    def as_dict(self) -> dict[str, Any]:
        """Return the skill as JSON shows it."""
        return {
            "skill_id": self.id,
            "name": self.name,
            "version": self.version,
            "status": self.status,
            "parameters": [item.as_dict() for item in self.parameters],
            "notebook": str(self.notebook),
            "verification": self.verification,
        }

    def summary(self) -> str:
        """Return what was verified and what can be varied, in a line."""
        said = self.verification.get("summary", "")
        parts = [
            f"verified: {said}" if self.verified else f"draft, not verified: {self.verification.get('reason', '')}"
        ]
        values = [item for item in self.parameters if item.kind == "value"]
        if values:
            shown = ", ".join(item.text() for item in values)
            parts.append(f"{len(values)} parameter{'s' if len(values) != 1 else ''}: {shown}")
        else:
            parts.append("no parameters")
        for kind in ("input", "output"):
            files = [item for item in self.parameters if item.kind == kind]
            if files:
                shown = ", ".join(f"{item.name} ({item.default})" for item in files)
                parts.append(f"{len(files)} {kind} file{'s' if len(files) != 1 else ''}: {shown}")
        return "; ".join(parts)

    def __str__(self) -> str:
        return f"{self.name} v{self.version}: {self.summary()}"

    def _repr_html_(self) -> str:
        glyph, colour = (
            ("✔", "var(--jp-success-color1, #2e7d32)") if self.verified else ("✎", "var(--jp-warn-color1, #b26a00)")
        )
        rows = "".join(
            f"<tr><td><code>{html.escape(item.name)}</code></td><td>{item.type}</td>"
            f"<td><code>{html.escape(repr(item.default))}</code></td><td>{html.escape(item.unit)}</td>"
            f"<td>{html.escape(item.help)}</td></tr>"
            for item in self.parameters
        )
        table = (
            "<table><thead><tr><th>parameter</th><th>type</th><th>default</th><th>unit</th><th>meaning</th></tr></thead>"
            f"<tbody>{rows}</tbody></table>"
            if rows
            else ""
        )
        return (
            f'<div class="cmbagent-skill"><b>{html.escape(self.name)}</b> v{self.version} '
            f'<span style="color:{colour}">{glyph} {html.escape(self.summary())}</span>{table}'
            f"<div>Notebook: <code>{html.escape(str(self.notebook))}</code></div></div>"
        )


def find(db: Database, writer: Writer, home: Path, reference: str) -> SkillRecord:
    """Return a skill by its id, its name (the newest active version), ``name@version``, or a part of its id."""
    from cmbagent_nb.skills import rows
    from cmbagent_nb.store.lookup import find_skill

    rows.interrupt_executions(db, writer)
    return from_row(find_skill(db, reference), db, writer, Path(home))


def load(db: Database, writer: Writer, home: Path, reference: str) -> SkillRecord:
    """Return a skill that is there to be run: :func:`find`, and its notebook is in its place and unchanged."""
    skill = find(db, writer, home, reference)
    source_hash.check_notebook(skill)
    return skill


def list_skills(
    db: Database, writer: Writer, home: Path, *, name: str | None = None, status: str | None = None
) -> list[SkillRecord]:
    """Return the skills by name and version, newest version first."""
    from cmbagent_nb.skills import rows
    from cmbagent_nb.store.lookup import parsed

    rows.interrupt_executions(db, writer)
    found = db.rows("SELECT * FROM skills ORDER BY name, version DESC")
    skills = [from_row(parsed(row), db, writer, Path(home)) for row in found]
    return [item for item in skills if name in (None, item.name) and status in (None, item.status)]


@contextmanager
def staging(home: Path, prefix: str) -> Iterator[Path]:
    """Give a new folder in which a skill is made; it is removed at the end, unless :func:`add` has moved it."""
    making = Path(home) / "skills" / ".making"
    making.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{prefix}-", dir=making))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def add(
    db: Database, writer: Writer, home: Path, made: Path, row: dict[str, Any], *, claim: naming.Claim | None = None
) -> SkillRecord:
    """Put a finished folder into the library as the next version of its name; ``artifacts`` of the row are its rows.

    The folder gets its place and the row is written in one transaction: there is never one without the other.

    Parameters
    ----------
    claim
        The claim to the name, held against the library once more; a next version of the name is meant without one.

    Raises
    ------
    SkillError
        The name was taken in the meantime.
    """
    from cmbagent_nb.skills import rows

    home = Path(home)
    name = naming.check_name(row["name"])
    skill_id = new_id()
    mark = rows.mark(db)

    wanted = claim or naming.Claim(name, version_of=name)

    def store(connection: Connection) -> int:
        wanted.check(naming.taken_now(connection, name))
        query = f"SELECT id, version FROM skills WHERE name = {mark} ORDER BY version DESC"
        found = connection.exec_driver_sql(query, (name,)).fetchall()
        version = found[0][1] + 1 if found else 1
        while (folder := home / "skills" / name / f"v{version}").exists():
            version += 1
        make_folder(folder.parent)
        tighten(made)
        artifacts = row.get("artifacts", ())
        values = {
            "id": skill_id,
            "version": version,
            "parent_skill_id": found[0][0] if found else None,
            "created_at": time.time(),
            "notebook": f"skills/{name}/v{version}/{NOTEBOOK}",
            **{key: value for key, value in row.items() if key != "artifacts"},
        }
        rows.insert(connection, db, writer, "skills", values)
        for artifact in artifacts:
            rows.insert(connection, db, writer, "skill_artifacts", {**artifact, "skill_id": skill_id})
        if (made / NOTEBOOK).is_file():
            shutil.copyfile(made / NOTEBOOK, made / source_hash.VERIFIED)
        made.rename(folder)
        return version

    writer.call(store).result()
    return find(db, writer, home, skill_id)


def from_row(row: dict[str, Any], db: Database, writer: Writer, home: Path) -> SkillRecord:
    """Return the skill of a row whose JSON columns are values."""
    steps = row["source_step_range"]
    place = row["notebook"] or f"skills/{row['name']}/v{row['version']}/{NOTEBOOK}"
    return SkillRecord(
        id=row["id"],
        name=row["name"],
        version=row["version"],
        status=row["status"],
        parameters=[Parameter.from_dict(item) for item in row["parameters"] or []],
        description=row["description"] or "",
        tags=list(row["tags"] or []),
        task=row["task_pattern"] or "",
        source_run_id=row["source_run_id"],
        steps=list(steps) if isinstance(steps, list) else [],
        verification=row["verification"] or {},
        notebook_hash=row["notebook_hash"] or "",
        trusted=bool(row["trusted"]),
        folder=(home / place).parent,
        created_at=row["created_at"],
        usage_count=row["usage_count"] or 0,
        success_count=row["success_count"] or 0,
        failure_count=row["failure_count"] or 0,
        avg_execution_time_s=row["avg_execution_time_s"],
        input_schema=row["input_schema"] or {},
        output_schema=row["output_schema"] or {},
        preconditions=row["preconditions"] or {},
        dag_template=row["dag_template"] or {},
        postconditions=row["postconditions"] or {},
        meta=row["meta"] or {},
        db=db,
        writer=writer,
        home=home,
    )


def write_verification(folder: Path, report: dict[str, Any]) -> None:
    """Keep the report of a verification beside the notebook."""
    text = scrub(json.dumps(report, indent=2, ensure_ascii=False))
    (folder / VERIFICATION).write_text(text + "\n", encoding="utf-8")
