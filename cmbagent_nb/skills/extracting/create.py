"""Skills of any notebook: one that has a cell tagged ``parameters`` becomes a skill, or the next version of one.

| question | answer |
|---|---|
| what are its parameters? | the plain assignments of that cell, with their annotations and comments |
| what are its inputs? | files beside the notebook that its code names; they are brought along |
| what are its outputs? | the files that it makes when it is run in a clean folder |
| is it right? | a second run in a fresh kernel must make the same; then each parameter is changed |

An edit of a skill is such a notebook with the skill's inputs; what it keeps of the skill it came from is said there.
"""

from __future__ import annotations

import copy
import re
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from cmbagent_nb.skills import library
from cmbagent_nb.skills.extracting import given, template
from cmbagent_nb.skills.extracting.making import Draft, Maker, Reference, Way
from cmbagent_nb.skills.model import Parameter, StepCode
from cmbagent_nb.skills.verifying import liveness
from cmbagent_nb.skills.verifying.verify import Original, Report, fill

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from cmbagent_nb.skills.library import Skill
    from cmbagent_nb.skills.running.engine import OnProgress
    from cmbagent_nb.store.database import Database
    from cmbagent_nb.store.writer import Writer


def create(
    db: Database,
    writer: Writer,
    home: Path,
    path: str | Path,
    *,
    name: str | None = None,
    tags: Iterable[str] = (),
    description: str = "",
    session_id: str | None = None,
    on_progress: OnProgress | None = None,
    timeout_s: float | None = None,
    liveness_s: float = liveness.BUDGET_S,
) -> Skill:
    """Make a skill of a notebook, verify it, and put it into the library.

    Parameters
    ----------
    name
        The skill's name; the notebook's own when not given.

    Raises
    ------
    SkillError
        There is no such notebook, it is of a form that is not known, has no cell of parameters, or reads files that
        lie elsewhere.
    """
    place = Path(path).expanduser().absolute()
    notebook = given.read(place)
    name = library.check_name(name if name is not None else re.sub(r"\W+", "_", place.stem).strip("_") or "skill")
    about = About(
        name=name,
        description=description or given.about(notebook),
        tags=tuple(tags),
        session_id=session_id,
        notebook_name=place.name,
    )
    return _make(db, writer, Path(home), notebook, place.parent, about, on_progress, timeout_s, liveness_s)


def edit(
    skill: Skill,
    notebook: str | Path,
    *,
    reason: str = "",
    on_progress: OnProgress | None = None,
    timeout_s: float | None = None,
    liveness_s: float = liveness.BUDGET_S,
) -> Skill:
    """Make the next version of a skill from an edited copy of its notebook; verified like the first.

    Inputs that do not lie beside the copy are those of the skill. The new version keeps the skill's tags, task and
    graph, and what is known of the parameters that it still has.
    """
    from cmbagent_nb.skills.sharing.trust import require_trust

    require_trust(skill)
    place = Path(notebook).expanduser().absolute()
    row = skill.db.rows("SELECT session_id, task_pattern FROM skills WHERE id = :id", id=skill.id)[0]
    about = About(
        name=skill.name,
        description=skill.description,
        tags=tuple(skill.tags),
        session_id=row["session_id"],
        notebook_name=place.name,
        reason=reason,
        parent=skill,
    )
    found = given.read(place)
    return _make(skill.db, skill.writer, skill.home, found, place.parent, about, on_progress, timeout_s, liveness_s)


@dataclass(frozen=True)
class About:
    """What is said of the skill, besides its notebook."""

    name: str
    description: str
    tags: tuple[str, ...]
    session_id: str | None
    notebook_name: str
    reason: str = ""
    #: The version that was edited.
    parent: Skill | None = None


def _make(
    db: Database,
    writer: Writer,
    home: Path,
    notebook: NotebookNode,
    beside: Path,
    about: About,
    on_progress: OnProgress | None,
    timeout_s: float | None,
    liveness_s: float,
) -> Skill:
    from cmbagent_nb.skills.verifying.again import EXPECTED

    making = home / "skills" / ".making"
    making.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{about.name}-", dir=making))
    first = Path(tempfile.mkdtemp(prefix="first-", dir=making))
    try:
        assets = folder / library.ASSETS
        assets.mkdir()
        notebook = given.bring(given.clean(notebook), beside, assets, about.parent)
        outputs, report = _first_run(notebook, assets, first, timeout_s, on_progress)
        parameters = _with_kinds(notebook, assets, outputs, about.parent)
        draft = Draft(notebook, parameters, given.codes(notebook))
        if report is None:
            printed = _printed(first)
            reference = Reference([Original(path, first / path) for path in outputs], printed, (str(first),))
            maker = Maker(reference, assets, making, timeout_s=timeout_s, on_progress=on_progress, budget_s=liveness_s)
            draft, report = maker.make(Builder(draft), (Way(),))
            report.notes.append("compared with its own first run, in another fresh kernel")
        for path in outputs:
            (folder / EXPECTED / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(first / path, folder / EXPECTED / path)
        row = _row(folder, about, draft, report, {path: first / path for path in outputs})
        return library.add(db, writer, home, folder, row)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(first, ignore_errors=True)


@dataclass(frozen=True)
class Builder:
    """Builds the notebook without some of its parameters: their lines move into a cell of their own."""

    draft: Draft

    def __call__(self, way: Way, without: frozenset[str] = frozenset()) -> Draft:
        """Return the notebook; there is but one way to build it."""
        if not without:
            return self.draft
        notebook = copy.deepcopy(self.draft.notebook)
        cell = given.parameters_cell(notebook)
        moved, stay = given.split_lines(cell.source, without)
        cell.source = stay
        import nbformat

        new_code_cell: Any = nbformat.v4.new_code_cell
        fixed = new_code_cell(moved, metadata={"tags": ["fixed"]})
        notebook.cells.insert(notebook.cells.index(cell) + 1, fixed)
        return Draft(notebook, [item for item in self.draft.parameters if item.name not in without], self.draft.codes)


#: Where the first run's printed text is kept in its folder.
_PRINTED = ".printed.txt"


def _first_run(
    notebook: NotebookNode, assets: Path, folder: Path, timeout_s: float | None, on_progress: OnProgress | None
) -> tuple[list[str], Report | None]:
    """Run the notebook in a clean folder; returns the files that it made, and a report where it does not run."""
    from cmbagent_nb.skills.running.cells_done import listing
    from cmbagent_nb.skills.running.engine import execute
    from cmbagent_nb.skills.verifying.verify import output

    fill(folder, assets)
    before = listing(folder)
    tell = None if on_progress is None else lambda done, total, what: on_progress(done, total + 1, f"first run: {what}")
    executed = execute(notebook, folder, timeout_s=timeout_s, on_progress=tell)
    if executed.status != "completed":
        reason = f"it does not run with its defaults: {executed.error}"
        return [], Report(False, reason, duration_s=executed.duration_s, cells=executed.cells)
    made = [name for name, state in listing(folder).items() if before.get(name) != state]
    (folder / _PRINTED).write_text(output(executed.notebook), encoding="utf-8")
    return made, None


def _printed(folder: Path) -> str:
    return (folder / _PRINTED).read_text(encoding="utf-8")


def _with_kinds(notebook: NotebookNode, assets: Path, outputs: list[str], parent: Skill | None) -> list[Parameter]:
    """Return the parameters; those that name a file that is read or made say so."""
    known = parent.parameters if parent is not None else ()
    names = {PurePosixPath(path).name for path in outputs} | set(outputs)

    def with_kind(item: Parameter) -> Parameter:
        text = item.default if isinstance(item.default, str) and item.default else None
        if text is not None and (assets / text).is_file():
            return replace(item, kind="input", help=item.help or f"file to read instead of {text}")
        if text is not None and text.removeprefix("./") in names:
            return replace(item, kind="output", help=item.help or f"name of the file {text}")
        return item

    return [with_kind(item) for item in given.read_parameters(given.parameters_cell(notebook).source, known)]


def _row(folder: Path, about: About, draft: Draft, report: Report, places: dict[str, Path]) -> dict[str, Any]:
    """Write the folder's files and return the skill's row."""
    from cmbagent_nb import __version__
    from cmbagent_nb.skills import conditions
    from cmbagent_nb.skills.artifacts import artifact_rows
    from cmbagent_nb.skills.notebook import FORMAT, notebook_hash, notebook_text, package_versions
    from cmbagent_nb.skills.schema import describe

    parent, assets, notebook = about.parent, folder / library.ASSETS, draft.notebook
    versions = package_versions(draft.codes)
    old = notebook.metadata.get("cmbagent_nb", {})
    notebook.metadata["cmbagent_nb"] = {
        **(old if isinstance(old, dict) else {}),
        "format": FORMAT,
        "made_by": f"cmbagent_nb {__version__}",
        "notebook": about.notebook_name,
        "assets": sorted(path.relative_to(assets).as_posix() for path in assets.rglob("*") if path.is_file()),
        "versions": versions,
        **({"edited_from": {"id": parent.id, "version": parent.version, "reason": about.reason}} if parent else {}),
    }
    text = notebook_text(notebook)
    (folder / library.NOTEBOOK).write_text(text, encoding="utf-8")
    library.write_verification(folder, report.as_dict())
    input_schema = {
        path.relative_to(assets).as_posix(): describe(path) for path in sorted(assets.rglob("*")) if path.is_file()
    }
    output_schema = {path: describe(place) for path, place in places.items()}
    step = StepCode(
        "step_1", about.name, about.description, "", "", about.notebook_name, "", made=dict.fromkeys(places, "")
    )
    node = {"id": "step_1", "title": about.name, "agent": "", "instructions": about.description, "made": sorted(places)}
    graph = {"nodes": [node], "edges": [], "parallel": [], "gates": [], "retry": {}, "mode": "skill"}
    outside = list(parent.preconditions.get("files") or ()) if parent is not None else []
    kept = _kept(parent, notebook) if parent is not None else {}
    return {
        "name": about.name,
        "session_id": about.session_id,
        "description": about.description,
        "tags": sorted({*about.tags, *template.tags(draft.codes, places)}),
        "task_pattern": about.description,
        "input_schema": input_schema,
        "output_schema": output_schema,
        "preconditions": conditions.preconditions(versions, outside, input_schema, draft.codes),
        "postconditions": conditions.postconditions(places),
        "source_step_range": [],
        "dag_template": graph,
        "agent_sequence": [],
        "context_requirements": template.context_requirements(draft.parameters, input_schema, outside, []),
        "notebook_hash": notebook_hash(text),
        "parameters": [item.as_dict() for item in draft.parameters],
        "status": "active" if report.verified else "draft",
        "trusted": True,
        "visibility": "private",
        "verification": {**report.as_dict(), "compared_with": "its own first run"},
        "meta": _meta(about),
        "artifacts": artifact_rows(
            [step], ["\n\n".join(draft.codes)], draft.parameters, {**input_schema, **output_schema}, assets
        ),
        **kept,
    }


def _meta(about: About) -> dict[str, Any] | None:
    edited = {"edited_from": about.parent.id, "source_run_id": about.parent.source_run_id} if about.parent else {}
    return {**({"reason": about.reason} if about.reason else {}), **edited} or None


def _kept(parent: Skill, notebook: NotebookNode) -> dict[str, Any]:
    """Return what an edited version keeps of the skill that it was made from.

    The run is not among it: the new version need not make what the run had made. Of the graph, it has the steps whose
    cells are still there.
    """
    from cmbagent_nb.store.lookup import parsed

    row = parsed(parent.db.rows("SELECT * FROM skills WHERE id = :id", id=parent.id)[0])
    kept = {name: row[name] for name in ("task_pattern", "agent_sequence", "visibility")} | {
        "parent_skill_id": parent.id
    }
    there = {cell.metadata.get("cmbagent_nb", {}).get("node_id") for cell in notebook.cells}
    graph = row["dag_template"] or {}
    nodes = [item for item in graph.get("nodes", ()) if item.get("id") in there]
    if nodes:
        names = {item["id"] for item in nodes}
        edges = [edge for edge in graph.get("edges", ()) if set(edge) <= names]
        groups = [[name for name in group if name in names] for group in graph.get("parallel", ())]
        parallel = [group for group in groups if len(group) > 1]
        kept["dag_template"] = {**graph, "nodes": nodes, "edges": edges, "parallel": parallel}
    return kept
