"""Collects the facts of the run that a skill came from besides code: its graph, its agents, its subject.

The graph template says how the steps hang together, which of them ran side by side, where a person was asked, and how
failures were met, so that a run that follows the skill is steered like the one that it came from.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter
from typing import Any

from cmbagent_nb.skills.extracting.record import RunRecord
from cmbagent_nb.skills.model import Parameter, StepCode
from cmbagent_nb.store.json import from_json

#: Calls by which code is known to do something that people look for: name → tag.
_DOES = {
    name: tag
    for tag, names in {
        "fit": "curve_fit minimize least_squares polyfit lstsq linregress",
        "plot": "savefig imshow hist errorbar",
        "random numbers": "default_rng RandomState",
        "periodogram": "lombscargle LombScargle",
        "spectrum": "rfft fft welch",
        "differential equations": "odeint solve_ivp",
        "integration": "quad trapezoid simpson",
        "statistics": "groupby ttest_ind mannwhitneyu",
        "mcmc": "EnsembleSampler",
        "clustering": "KMeans DBSCAN",
        "machine learning": "train_test_split",
    }.items()
    for name in names.split()
}
_ABOUT = {"camb": "cosmology", "astropy": "astronomy", "sklearn": "machine learning", "healpy": "cosmology"}
_MOST_TAGS = 12


def ordered(steps: list[StepCode]) -> list[StepCode]:
    """Return steps such that each comes after those that it needs; otherwise in the order of the plan.

    A step needs those that it names, and those whose files it read.
    """
    known = {step.node_id: number for number, step in enumerate(steps)}
    makers: dict[str, list[str]] = {}
    for step in steps:
        for path in step.made:
            makers.setdefault(path, []).append(step.node_id)
    needs: dict[str, set[str]] = {}
    for step in steps:
        named = {other for other in step.depends_on if other in known}
        read = {maker for path in step.reads for maker in makers.get(path, ()) if len(makers[path]) == 1}
        needs[step.node_id] = (named | read) - {step.node_id}
    sorter = TopologicalSorter(needs)
    try:
        sorter.prepare()
    except CycleError:
        return steps
    found: list[StepCode] = []
    ready = list(sorter.get_ready())
    while ready:
        ready.sort(key=known.__getitem__)
        node_id = ready.pop(0)
        found.append(steps[known[node_id]])
        sorter.done(node_id)
        ready += sorter.get_ready()
    return found


def dag_template(record: RunRecord, chosen: list[StepCode], without: dict[str, str]) -> dict[str, Any]:
    """Return the graph of the chosen steps, with gates, retries and what runs side by side."""
    plan = from_json(record.run.get("plan")) if isinstance(record.run.get("plan"), str) else record.run.get("plan")
    meta = from_json(record.run["meta"]) if record.run.get("meta") else {}
    planned = {
        f"step_{item.get('number', number)}": item for number, item in enumerate((plan or {}).get("steps", []), 1)
    }
    before = needed(record, chosen)
    nodes = []
    for step in chosen:
        entry = planned.get(step.node_id, {})
        nodes.append(
            {
                "id": step.node_id,
                "title": step.title,
                "agent": step.agent,
                "instructions": step.instructions,
                "bullet_points": list(entry.get("bullet_points") or ()),
                "needs_approval": bool(entry.get("needs_approval")),
                "expected_outputs": list(entry.get("expected_outputs") or ()),
                "depends_on": before[step.node_id],
                "attempts": step.attempt,
                "errors": list(step.errors),
                "made": sorted(step.made),
            }
        )
    return {
        "nodes": nodes,
        "edges": [[earlier, step.node_id] for step in chosen for earlier in before[step.node_id]],
        "parallel": side_by_side(chosen, before),
        "gates": sorted(meta.get("approve") or ()),
        "retry": {
            "max_attempts": meta.get("max_attempts"),
            "attempts": {step.node_id: step.attempt for step in chosen},
        },
        "mode": record.run.get("mode"),
        "left_out": without,
    }


def needed(record: RunRecord, chosen: list[StepCode]) -> dict[str, list[str]]:
    """Return for each chosen step those of them that it needs, also through steps that were not chosen."""
    own = {step.node_id for step in chosen}
    direct = {**record.depends_on, **{step.node_id: step.depends_on for step in [*record.steps, *chosen]}}
    found: dict[str, list[str]] = {}
    for step in chosen:
        names: list[str] = []
        looked: set[str] = set()
        todo = list(direct.get(step.node_id, ()))
        while todo:
            name = todo.pop(0)
            if name in looked or name == step.node_id:
                continue
            looked.add(name)
            if name in own:
                names.append(name)
            else:
                todo += direct.get(name, ())
        found[step.node_id] = names
    return found


def side_by_side(chosen: list[StepCode], before: dict[str, list[str]]) -> list[list[str]]:
    """Return the groups of steps that need only earlier ones and not each other.

    >>> steps = [StepCode(f"step_{n}", "", "", "", "", "", "") for n in (1, 2, 3)]
    >>> side_by_side(steps, {"step_1": [], "step_2": [], "step_3": ["step_1", "step_2"]})
    [['step_1', 'step_2']]
    """
    depth: dict[str, int] = {}
    for step in chosen:
        depth[step.node_id] = 1 + max((depth.get(name, 0) for name in before[step.node_id]), default=0)
    levels: dict[int, list[str]] = {}
    for step in chosen:
        levels.setdefault(depth[step.node_id], []).append(step.node_id)
    return [names for _, names in sorted(levels.items()) if len(names) > 1]


def tags(codes: Iterable[str], outputs: Iterable[str]) -> list[str]:
    """Return what a skill is about, as its code tells: its libraries, what it does, what it makes."""
    found: list[str] = []
    for code in codes:
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Import):
                found += [alias.name.partition(".")[0] for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.append(node.module.partition(".")[0])
            elif isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                found += [_DOES[name]] if name in _DOES else []
    import sys

    modules = [name for name in found if name not in sys.stdlib_module_names]
    about = [_ABOUT[name] for name in modules if name in _ABOUT]
    kinds = [path.rpartition(".")[2].lower() for path in outputs if "." in path.rpartition("/")[2]]
    return list(dict.fromkeys([*about, *sorted(set(modules)), *sorted(set(kinds))]))[:_MOST_TAGS]


def context_requirements(
    parameters: list[Parameter], input_schema: dict[str, Any], outside: list[str], modules: list[str]
) -> dict[str, Any]:
    """Return what has to be there for the skill to make sense: files of which kind, modules, places outside."""
    inputs = []
    for item in parameters:
        if item.kind == "input":
            schema: dict[str, Any] = input_schema.get(str(item.default)) or next(
                (value for path, value in input_schema.items() if path.rpartition("/")[2] == item.default), {}
            )
            inputs.append({"parameter": item.name, "path": item.default, "schema": schema})
    return {"inputs": inputs, "files_outside": outside, "modules": modules}
