"""A skill's graph as the plan of a run: its steps, agents, gates and attempts are those of the run that it came from.

What the graph template of an older skill does not say is read from that run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cmbagent_nb.skills.running.deviation import renamed
from cmbagent_nb.skills.running.script import WHOLE
from cmbagent_nb.store.json import from_json
from cmbagent_nb.workflow.plan import Plan

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from cmbagent_nb.skills.library import SkillRecord

ENGINEER = "engineer"


@dataclass(frozen=True)
class Template:
    """The plan that a skill gives a run, and what its steps stand for in the notebook."""

    plan: Plan
    #: Node of the run → step of the skill.
    steps: dict[str, str]
    #: Node of the run → files that the step made, by their default names.
    made: dict[str, list[str]]
    #: The gates and the attempts of the run that the skill came from.
    approve: str = ""
    max_attempts: int | None = None
    #: Node → (the agent of the run, the one that takes its place here).
    replaced: dict[str, tuple[str, str]] = field(default_factory=dict)


def _planned(run: dict[str, Any]) -> dict[str, dict[str, Any]]:
    plan = from_json(run["plan"]) if isinstance(run.get("plan"), str) else run.get("plan") or {}
    return {f"step_{number}": step for number, step in enumerate(plan.get("steps", ()), start=1)}


def _options(run: dict[str, Any]) -> dict[str, Any]:
    meta = from_json(run["meta"]) if isinstance(run.get("meta"), str) else run.get("meta") or {}
    return {"gates": meta.get("approve") or [], "retry": {"max_attempts": meta.get("max_attempts")}}


def plan_of(
    skill: SkillRecord,
    notebook: NotebookNode,
    *,
    apart: bool,
    agents: Iterable[str],
    values: Mapping[str, Any] | None = None,
) -> Template:
    """Return the plan of a run of a skill.

    Parameters
    ----------
    apart
        Whether each step has a script of its own; else the notebook is one step.
    agents
        The agents that there are: a step of another one is the engineer's.
    values
        Values for the parameters, which may name files: the code of an agent has to make those of its step, too.
    """
    kept: dict[str, Any] = dict(skill.dag_template)
    run = _run(skill)
    kept = {**(_options(run) if run else {}), **kept}
    about = {
        str(item.get("node_id")): item
        for item in notebook.metadata.get("cmbagent_nb", {}).get("steps", [])
        if isinstance(item, dict)
    }
    planned = _planned(run) if run else {}
    nodes = [item for item in kept.get("nodes", []) if isinstance(item, dict) and item.get("id")]
    if not apart or not nodes:
        return _whole(skill, kept, nodes, values or {})
    edges = [(str(edge[0]), str(edge[1])) for edge in kept.get("edges", []) if len(edge) == 2]
    place = {str(node["id"]): f"step_{number}" for number, node in enumerate(nodes, start=1)}
    there = frozenset(agents)
    steps, made, replaced = [], {}, {}
    for node in nodes:
        own = str(node["id"])
        known = {**planned.get(own, {}), **about.get(own, {}), **{k: v for k, v in node.items() if v}}
        agent = str(known.get("agent") or ENGINEER)
        if agent not in there:
            replaced[place[own]] = (agent, ENGINEER)
            agent = ENGINEER
        made[place[own]] = [str(path) for path in known.get("made") or known.get("expected_outputs") or ()]
        steps.append(
            {
                "title": known.get("title") or own,
                "agent": agent,
                "instructions": known.get("instructions") or _heading(notebook, own) or known.get("title") or own,
                "bullet_points": known.get("bullet_points") or [],
                "depends_on": [place[before] for before, after in edges if after == own and before in place],
                "needs_approval": bool(known.get("needs_approval")),
                "expected_outputs": _expected(skill, made[place[own]], values or {}),
            }
        )
    plan = Plan.from_reply({"goal": skill.description or skill.task or skill.name, "steps": steps})
    return Template(plan, {new: old for old, new in place.items()}, made, *_gates(kept), replaced)


def _expected(skill: SkillRecord, made: Iterable[str], values: Mapping[str, Any]) -> list[str]:
    """Return the files of a step as their parameters name them; a name that reads as a pattern is none to look for."""
    names = [renamed(skill, path, values) for path in made]
    return [name for name in names if not set(name) & set("*?[")]


def _whole(
    skill: SkillRecord, kept: dict[str, Any], nodes: list[dict[str, Any]], values: Mapping[str, Any]
) -> Template:
    asks = any(node.get("needs_approval") for node in nodes)
    files = [str(path) for path in skill.postconditions.get("files") or skill.output_schema]
    step = {
        "title": skill.name,
        "agent": ENGINEER,
        "instructions": skill.description or skill.task or f"Run the notebook of the skill {skill.name}.",
        "needs_approval": asks,
        "expected_outputs": _expected(skill, files, values),
    }
    plan = Plan.from_reply({"goal": skill.description or skill.name, "steps": [step]})
    return Template(plan, {"step_1": WHOLE}, {"step_1": files}, *_gates(kept))


def _gates(kept: dict[str, Any]) -> tuple[str, int | None]:
    """Return the gates that survive: there is no planner whose plan could be approved."""
    gates = ",".join(str(name) for name in kept.get("gates") or () if name != "plan")
    attempts = (kept.get("retry") or {}).get("max_attempts")
    return gates, int(attempts) if isinstance(attempts, int) and attempts > 0 else None


def _run(skill: SkillRecord) -> dict[str, Any] | None:
    if not skill.source_run_id:
        return None
    found = skill.db.rows("SELECT plan, meta FROM workflow_runs WHERE id = :id", id=skill.source_run_id)
    return found[0] if found else None


def _heading(notebook: NotebookNode, node_id: str) -> str:
    """Return what the notebook says above a step, but for its title and the small print."""
    cells = notebook.cells
    for index, cell in enumerate(cells):
        if cell.metadata.get("cmbagent_nb", {}).get("node_id") == node_id and index:
            text = cells[index - 1].source if cells[index - 1].cell_type == "markdown" else ""
            return re.sub(r"^#.*$|<small>.*</small>", "", text, flags=re.MULTILINE).strip()
    return ""
