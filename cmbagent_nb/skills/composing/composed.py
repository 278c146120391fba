"""The notebook of a composition, and its row in the library."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb._version import __version__
from cmbagent_nb.skills.model import Parameter
from cmbagent_nb.skills.notebook import NO_STEPS, PARAMETERS

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from cmbagent_nb.skills.composing.compose import Component, Composition
    from cmbagent_nb.skills.library import SkillRecord

_FORMAT = 1
#: What the notebook needs to know the numbers that its first part has made; the same as an execution's metrics.
_METRICS = '''\
def numbers(value, prefix="", depth=0):
    """Yield the numbers in what a JSON file holds, by their dotted names."""
    if isinstance(value, dict) and depth < 5:
        for key, inner in value.items():
            yield from numbers(inner, f"{prefix}.{key}" if prefix else str(key), depth + 1)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield prefix or "value", value


def metric(name):
    """Return a number that the first part has made, by its name or by file and name."""
    found = []
    for path in sorted(made.rglob("*.json")):
        if "input" not in path.relative_to(made).parts and not path.name.startswith("."):
            values = list(numbers(json.loads(path.read_text(encoding="utf-8"))))
            found += [value for key, value in values if name in (key, f"{path.stem}.{key}")]
    if len(found) != 1:
        raise LookupError(f"the condition names {name!r}, of which the first part made {len(found)}")
    return found[0]


outputs = {path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file()}'''


# -- the notebook ---------------------------------------------------------------------------------


def build(planned: Composition, description: str = "", *, flipped: bool = False) -> NotebookNode:
    """Build the notebook; ``flipped`` decides against what the condition says, to try the other way."""
    import nbformat

    from cmbagent_nb.skills.notebook import parameters_source, read_notebook
    from cmbagent_nb.skills.source_hash import check_notebook

    cells: Any = nbformat.v4
    made = [
        cells.new_markdown_cell(_opening(planned, description), id="about"),
        cells.new_code_cell(parameters_source(planned.parameters), id="parameters", metadata={"tags": ["parameters"]}),
        cells.new_code_cell(_folder(planned), id="setup", metadata={"tags": ["setup"]}),
    ]
    about: dict[str, Any] = {"steps": [], "agents": set(), "models": set(), "outside": set(), "versions": {}}
    for place, component in enumerate(planned.components):
        notebook = read_notebook(check_notebook(component.skill))
        _number_nodes(component, notebook, about)
        metadata = {
            "component": component.folder,
            "fresh_kernel": place > 0,
            **({"decides": True} if planned.taken(component) else {}),
        }
        made.append(cells.new_markdown_cell(_heading(planned, component), id=f"part{place + 1}-about"))
        made.append(
            cells.new_code_cell(
                _binding(planned, component, flipped=flipped),
                id=f"part{place + 1}-parameters",
                metadata={"tags": ["setup"], "cmbagent_nb": metadata},
            )
        )
        made += _cells_of(component, notebook, place)
    provenance = {
        "format": _FORMAT,
        "made_by": _made_by(),
        "run": {"id": None, "name": None, "mode": None, "model": None, "model_source": None},
        "task": _task(planned),
        "steps": about["steps"],
        "left_out": {},
        "agents": sorted(about["agents"]),
        "models": sorted(about["models"]),
        "cost_usd": None,
        "assets": [f"{part.folder}/{path}" for part in planned.components for path in _assets(part.skill)],
        "reads_outside": sorted(about["outside"]),
        "versions": about["versions"],
        "composition": composition(planned),
    }
    metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python"},
        "cmbagent_nb": provenance,
    }
    whole: NotebookNode = cells.new_notebook(cells=made, metadata=metadata)
    whole.nbformat_minor = 5
    validate: Any = nbformat.validate
    validate(whole)
    return whole


def composition(planned: Composition) -> dict[str, Any]:
    """Return what a composition is made of, as it is kept with the skill and in the notebook."""
    return {
        "pattern": planned.pattern,
        "when": planned.condition.text if planned.condition else None,
        "components": [
            {
                "name": part.skill.name,
                "version": part.skill.version,
                "skill_id": part.skill.id,
                "folder": part.folder,
                "taken": planned.taken(part) or None,
                "links": [link.as_dict() for link in part.links],
                "parameters": {own: item.name for own, item in part.parameters.items()},
                "nodes": part.nodes,
            }
            for part in planned.components
        ],
    }


def _made_by() -> str:

    return f"cmbagent_nb {__version__}"


def _opening(planned: Composition, description: str) -> str:
    parts = ", ".join(f"{part.skill.name} v{part.skill.version}" for part in planned.components)
    lines = [f"# {planned.name}", ""]
    if description:
        lines += [description, ""]
    lines += [f"Made of {parts}, {planned.pattern}. Each works in a folder of its own, named after it."]
    if planned.condition is not None:
        lines += ["", f"The condition is `{planned.condition.text}`, of what `{planned.components[0].folder}` makes."]
    lines += ["", "As a skill, each part has a fresh kernel. No model is called when this notebook runs."]
    return "\n".join(lines)


def _heading(planned: Composition, component: Component) -> str:
    lines = [f"# {component.folder}", "", f"{component.skill.name} v{component.skill.version}."]
    if component.skill.description:
        lines[-1] += f" {component.skill.description.strip()}"
    lines += [f"\n`{link.input}` is `{link.path}` of `{link.source}` ({link.how})." for link in component.links]
    taken = planned.taken(component)
    if taken and planned.condition is not None:
        said = "holds" if taken == "then" else "does not hold"
        lines += ["", f"These cells are for when `{planned.condition.text}` {said}; by hand, leave them out otherwise."]
    return "\n".join(lines)


def _folder(planned: Composition) -> str:
    lines = [
        "import os",
        "import shutil",
        "from pathlib import Path",
        "",
        f"{planned.base} = Path.cwd()",
        'if Path("assets").is_dir():  # opened in the skill\'s own folder',
        '    shutil.copytree("assets", ".", dirs_exist_ok=True)',
    ]
    return "\n".join(lines)


def _binding(planned: Composition, component: Component, *, flipped: bool) -> str:
    """Return the cell by which a component gets its folder, its parameters and its inputs."""
    base = planned.base
    lines = [f"Path({component.folder!r}).mkdir(exist_ok=True)", f"os.chdir({component.folder!r})"]
    for own in component.skill.parameters:
        link = component.linked(own.name)
        if link is not None:
            lines.append(f"{own.name} = str({base} / {link.source!r} / {_made_path(planned, link)})")
            continue
        given = component.parameters[own.name]
        if own.kind == "input":
            path = f"str({base} / {given.name})"
            lines.append(f"{own.name} = {own.default!r} if {given.name} == {given.default!r} else {path}")
        elif own.name != given.name:
            lines.append(f"{own.name} = {given.name}")
        if own.kind == "output":
            lines.append(f"Path({own.name}).parent.mkdir(parents=True, exist_ok=True)")
    for link in component.links:
        if not link.parameter:
            lines.append(f"Path({link.input!r}).parent.mkdir(parents=True, exist_ok=True)")
            lines.append(f"shutil.copyfile({base} / {link.source!r} / {_made_path(planned, link)}, {link.input!r})")
    lines = [f"os.chdir({base})", *lines]
    taken = planned.taken(component)
    if not taken or planned.condition is None:
        return "\n".join(lines)
    condition = planned.condition.code()
    decided = condition if (taken == "then") is not flipped else f"not {condition}"
    first = planned.components[0].folder
    return "\n".join(
        [
            "import json",
            "",
            f"made = {base} / {first!r}",
            "",
            "",
            _METRICS,
            f"taken = {decided}  # {planned.condition.text}",
            f'decided = {base} / ".taken.json"',
            'known = json.loads(decided.read_text(encoding="utf-8")) if decided.is_file() else {}',
            f'decided.write_text(json.dumps(known | {{{component.folder!r}: taken}}), encoding="utf-8")',
            f'print({component.folder!r}, "is run" if taken else "is left out")',
            "if taken:",
            *(f"    {line}" for line in lines),
        ]
    )


def _made_path(planned: Composition, link: Any) -> str:
    """Return Python for an output's path: with the parameter that names it, where there is one."""
    source = next(part for part in planned.components if part.folder == link.source)
    for own in source.skill.parameters:
        if own.kind == "output" and own.name in source.parameters:
            name = source.parameters[own.name].name
            if own.default == link.path:
                return name
            if Path(link.path).name == own.default:
                return f"Path({str(Path(link.path).parent)!r}, {name})"
    return repr(link.path)


def _number_nodes(component: Component, notebook: NotebookNode, about: dict[str, Any]) -> None:
    """Give a component's steps their numbers in the composition, and take in where they come from."""
    own: dict[str, Any] = notebook.metadata.get("cmbagent_nb", {})
    count = len(about["steps"])
    steps = own.get("steps") or []
    named = [step.get("node_id") for step in steps]
    # a notebook that was not made of a run has cells without nodes: each is a step
    extra = [cell.get("id") for cell in notebook.cells if _is_step(cell) and _node_of(cell) not in named]
    for number, node in enumerate([*named, *extra], start=count + 1):
        component.nodes[str(node)] = f"step_{number}"
    for step in [*steps, *({"node_id": node, "title": node} for node in extra)]:
        about["steps"].append(
            {
                **step,
                "node_id": component.nodes[step["node_id"]],
                "title": f"{component.folder}: {step.get('title') or step['node_id']}",
                "depends_on": [component.nodes[name] for name in step.get("depends_on", ()) if name in component.nodes],
                "component": component.folder,
            }
        )
    about["agents"] |= set(own.get("agents") or ())
    about["models"] |= set(own.get("models") or ())
    about["outside"] |= set(own.get("reads_outside") or ())
    about["versions"] |= own.get("versions") or {}


def _is_step(cell: Any) -> bool:
    tags = set(cell.metadata.get("tags", []))
    plain = not tags & {*NO_STEPS, "part"}
    return bool(cell.cell_type == "code" and cell.source.strip() and plain)


def _node_of(cell: Any) -> str:
    return str(cell.metadata.get("cmbagent_nb", {}).get("node_id", ""))


def _cells_of(component: Component, notebook: NotebookNode, place: int) -> list[Any]:
    made: list[Any] = []
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if cell.get("id") == "about" or set(tags) & PARAMETERS:
            continue
        new = copy.deepcopy(cell)
        new["id"] = f"part{place + 1}-{cell.get('id', len(made))}"[:64]
        about = dict(cell.metadata.get("cmbagent_nb", {}))
        inner = about.get("component")
        about["component"] = f"{component.folder}/{inner}" if inner else component.folder
        node = component.nodes.get(_node_of(cell)) or component.nodes.get(str(cell.get("id")))
        if node is not None:
            about["node_id"] = node
            new.metadata["tags"] = [*tags, *(["step"] if "step" not in tags and "part" not in tags else [])]
        new.metadata["cmbagent_nb"] = about
        if cell.cell_type == "code":
            new.outputs, new.execution_count = [], None
        made.append(new)
    return made


def _assets(skill: SkillRecord) -> list[str]:
    if not skill.assets.is_dir():
        return []
    return [path.relative_to(skill.assets).as_posix() for path in sorted(skill.assets.rglob("*")) if path.is_file()]


def _task(planned: Composition) -> str:
    tasks = [part.skill.task or part.skill.description or part.skill.name for part in planned.components]
    joint = {"sequential": "; then ", "parallel": "; and ", "conditional": "; depending on that, "}[planned.pattern]
    return joint.join(task.strip().rstrip(".") for task in tasks) + "."


# -- the row --------------------------------------------------------------------------------------


def row_of(
    planned: Composition, notebook: NotebookNode, report: dict[str, Any], description: str, tags: list[str]
) -> dict[str, Any]:
    """Return the skill's row."""
    from cmbagent_nb.skills.notebook import notebook_hash, notebook_text

    parts = planned.components
    sure = [part for part in parts if not planned.taken(part)]
    skills = [part.skill for part in parts]
    return {
        "name": planned.name,
        "description": description or f"{planned.pattern}: {', '.join(skill.name for skill in skills)}",
        "tags": sorted({*tags, *(tag for skill in skills for tag in skill.tags)}),
        "task_pattern": _task(planned),
        "input_schema": {
            f"{part.folder}/{path}": schema
            for part in parts
            for path, schema in part.skill.input_schema.items()
            if path not in {link.input for link in part.links}
        },
        "output_schema": {
            f"{part.folder}/{path}": schema for part in parts for path, schema in part.skill.output_schema.items()
        },
        "preconditions": _preconditions(parts),
        "postconditions": {
            "files": [f"{part.folder}/{path}" for part in sure for path in part.skill.output_schema],
            "ranges": {},
        },
        "source_run_id": None,
        "source_step_range": [node for part in parts for node in part.nodes.values()],
        "dag_template": _graph(planned),
        "agent_sequence": [agent for part in parts for agent in _row(part.skill).get("agent_sequence") or []],
        "notebook_hash": notebook_hash(notebook_text(notebook)),
        "parameters": [_with_steps(planned, item).as_dict() for item in planned.parameters],
        "status": "active" if report["verified"] else "draft",
        "trusted": True,
        "visibility": "private",
        "verification": report,
        "meta": {"composition": composition(planned)},
    }


def _row(skill: SkillRecord) -> dict[str, Any]:
    from cmbagent_nb.store.lookup import parsed

    return parsed(skill.db.rows("SELECT * FROM skills WHERE id = :id", id=skill.id)[0])


def _with_steps(planned: Composition, item: Parameter) -> Parameter:
    steps = [
        part.nodes[step]
        for part in planned.components
        for own in part.skill.parameters
        if part.parameters.get(own.name) is not None and part.parameters[own.name].name == item.name
        for step in own.steps
        if step in part.nodes
    ]
    return Parameter.from_dict({**item.as_dict(), "steps": steps})


def _preconditions(parts: list[Component]) -> dict[str, Any]:
    merged: dict[str, Any] = {"packages": {}, "files": [], "inputs": [], "columns": {}, "parameters": []}
    for part in parts:
        own = part.skill.preconditions
        fed = {link.input for link in part.links}
        merged["packages"] |= own.get("packages") or {}
        merged["files"] += [path for path in own.get("files") or () if path not in merged["files"]]
        merged["inputs"] += [f"{part.folder}/{path}" for path in own.get("inputs") or () if path not in fed]
        merged["columns"] |= {
            f"{part.folder}/{path}": names for path, names in (own.get("columns") or {}).items() if path not in fed
        }
        merged["parameters"] += [
            {**item, "parameter": part.parameters[item["parameter"]].name}
            for item in own.get("parameters") or ()
            if item.get("parameter") in part.parameters
        ]
    return merged


def _graph(planned: Composition) -> dict[str, Any]:
    """Return the graph: the components' graphs, and edges from the ends of one to the beginnings of those it feeds."""
    nodes: list[dict[str, Any]] = []
    edges: list[list[str]] = []
    ends: dict[str, list[str]] = {}
    begins: dict[str, list[str]] = {}
    for part in planned.components:
        own = part.skill.dag_template
        known = {item["id"]: item for item in own.get("nodes", ())}
        inner = [[part.nodes[a], part.nodes[b]] for a, b in own.get("edges", ()) if a in part.nodes and b in part.nodes]
        for name, node in part.nodes.items():
            held = dict(known.get(name, {}))
            after = [part.nodes[other] for other in held.get("depends_on", ()) if other in part.nodes]
            nodes.append(
                {
                    **held,
                    "id": node,
                    "title": f"{part.folder}: {held.get('title') or name}",
                    "component": part.folder,
                    **({"depends_on": after} if "depends_on" in held else {}),
                }
            )
        edges += inner
        before, after_ = {a for a, _ in inner}, {b for _, b in inner}
        ends[part.folder] = [node for node in part.nodes.values() if node not in before]
        begins[part.folder] = [node for node in part.nodes.values() if node not in after_]
    for part in planned.components:
        sources = {link.source for link in part.links}
        if planned.taken(part):
            sources.add(planned.components[0].folder)
        edges += [[a, b] for source in sorted(sources) for a in ends[source] for b in begins[part.folder]]
    for held in nodes:
        if "depends_on" in held:
            held["depends_on"] = sorted({*held["depends_on"], *(a for a, b in edges if b == held["id"])})
    return {"nodes": nodes, "edges": edges, "pattern": planned.pattern}
