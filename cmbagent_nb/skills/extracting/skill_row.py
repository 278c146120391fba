"""Writes the files of a skill, extracted or created, and returns its row for the library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb._version import __version__
from cmbagent_nb.skills import library, naming
from cmbagent_nb.skills.extracting import template
from cmbagent_nb.skills.extracting.making import Draft
from cmbagent_nb.skills.model import StepCode
from cmbagent_nb.skills.verifying.verify import Report

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from cmbagent_nb.skills.library import SkillRecord


@dataclass(frozen=True)
class About:
    """Description of the skill, besides its notebook."""

    name: str
    description: str
    tags: tuple[str, ...]
    session_id: str | None
    notebook_name: str
    reason: str = ""
    #: The version that was edited.
    parent: SkillRecord | None = None
    #: Where the notebook lies, so that it can be taken again.
    made_from: str = ""
    claim: naming.Claim | None = None


def verified_columns(
    folder: Path,
    draft: Draft,
    report: Report,
    places: dict[str, Path],
    outside: list[str],
    versions: dict[str, str],
    modules: Sequence[str] = (),
) -> dict[str, Any]:
    """Write a skill's notebook and report into its folder; return the columns that follow from them and its files.

    Parameters
    ----------
    places
        The files that it makes, by their paths.
    outside
        The files outside the skill that its code reads.
    modules
        Its assets that are modules.
    """
    from cmbagent_nb.skills import conditions
    from cmbagent_nb.skills.notebook import notebook_hash, notebook_text
    from cmbagent_nb.skills.schema import describe

    text, assets = notebook_text(draft.notebook), folder / library.ASSETS
    (folder / library.NOTEBOOK).write_text(text, encoding="utf-8")
    library.write_verification(folder, report.as_dict())
    input_schema = {
        path.relative_to(assets).as_posix(): describe(path) for path in sorted(assets.rglob("*")) if path.is_file()
    }
    return {
        "input_schema": input_schema,
        "output_schema": {path: describe(place) for path, place in places.items()},
        "preconditions": conditions.preconditions(versions, outside, input_schema, draft.codes),
        "postconditions": conditions.postconditions(places),
        "context_requirements": template.context_requirements(draft.parameters, input_schema, outside, list(modules)),
        "notebook_hash": notebook_hash(text),
        "parameters": [item.as_dict() for item in draft.parameters],
        "status": "active" if report.verified else "draft",
        "trusted": True,
        "verification": report.as_dict(),
    }


def make_row(
    folder: Path, about: About, draft: Draft, report: Report, places: dict[str, Path], outside: list[str]
) -> dict[str, Any]:
    """Write the folder's files and return the skill's row."""
    from cmbagent_nb.skills.artifacts import artifact_rows
    from cmbagent_nb.skills.notebook import FORMAT, package_versions

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
    step = StepCode(
        "step_1", about.name, about.description, "", "", about.notebook_name, "", made=dict.fromkeys(places, "")
    )
    node = {"id": "step_1", "title": about.name, "agent": "", "instructions": about.description, "made": sorted(places)}
    graph = {"nodes": [node], "edges": [], "parallel": [], "gates": [], "retry": {}, "mode": "skill"}
    known = list(parent.preconditions.get("files") or ()) if parent is not None else []
    outside = sorted({*outside, *known})
    kept = _kept(parent, notebook) if parent is not None else {}
    columns = verified_columns(folder, draft, report, places, outside, versions)
    schemas = {**columns["input_schema"], **columns["output_schema"]}
    return {
        **columns,
        "name": about.name,
        "session_id": about.session_id,
        "description": about.description,
        "tags": sorted({*about.tags, *template.tags(draft.codes, places)}),
        "task_pattern": about.description,
        "source_step_range": [],
        "dag_template": graph,
        "agent_sequence": [],
        "visibility": "private",
        "verification": {**report.as_dict(), "compared_with": "its own first run"},
        "meta": _meta(about),
        "artifacts": artifact_rows([step], ["\n\n".join(draft.codes)], draft.parameters, schemas, assets),
        **kept,
    }


def _meta(about: About) -> dict[str, Any] | None:
    edited = {"edited_from": about.parent.id, "source_run_id": about.parent.source_run_id} if about.parent else {}
    made_from = {"made_from": about.made_from} if about.made_from else {}
    return {**({"reason": about.reason} if about.reason else {}), **made_from, **edited} or None


def _kept(parent: SkillRecord, notebook: NotebookNode) -> dict[str, Any]:
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
