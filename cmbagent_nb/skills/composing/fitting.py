"""Connects outputs of one skill with inputs of another: by name and content of the file, or as a person says.

| | |
|---|---|
| content fits | the same suffix; a table with the columns that the code names, an array of as many dimensions, … |
| one output fits | it is taken |
| several fit | the one with the same file name; else it is a problem that only a person can settle |
| a file of the same name does not fit | it is a problem, with what is missing |
| nothing of a later skill is fed | they are no sequence: a problem, with what each makes and reads |
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cmbagent_nb.skills.composing.compose import Component, Link


def links(components: list[Component], pattern: str, connect: dict[str, str]) -> list[str]:
    """Find the links between components, put them into each, and return what does not fit."""
    problems = _said(components, pattern, connect)
    if pattern == "parallel":
        return problems
    for place, component in enumerate(components[1:], start=1):
        earlier = components[:1] if pattern == "conditional" else components[:place]
        missed = []
        for path, parameter in inputs(component):
            if any(item.input == path for item in component.links):
                continue
            link, why = _find(component, path, parameter, earlier)
            if link is not None:
                component.links.append(link)
            elif why:
                missed.append(why)
        if component.links:
            # an input of its own that merely has the name of something earlier stays its own
            continue
        if pattern == "sequential":
            reads = ", ".join(path for path, _ in inputs(component)) or "no file"
            makes = "; ".join(
                f"{item.folder} makes {', '.join(item.skill.output_schema) or 'no file'}" for item in earlier
            )
            problems += missed or [f"nothing that {component.folder} reads ({reads}) is made before it ({makes})"]
    return problems


def inputs(component: Component) -> list[tuple[str, str]]:
    """Return the files that a component reads, with the parameter that names each, if one does."""
    found: dict[str, str] = {}
    schema = component.skill.input_schema
    for item in component.skill.parameters:
        if item.kind == "input":
            own = str(item.default)
            path = own if own in schema else next((p for p in schema if PurePosixPath(p).name == own), own)
            found[path] = item.name
    for path in schema:
        if PurePosixPath(path).suffix != ".py":
            found.setdefault(path, "")
    return list(found.items())


def _said(components: list[Component], pattern: str, connect: dict[str, str]) -> list[str]:
    """Take the links that a person gives."""
    from cmbagent_nb.skills.composing.compose import Link

    problems = []
    by_name = {item.folder: item for item in components}
    for target_text, source_text in connect.items():
        target_name, _, wanted = target_text.partition("." if ":" not in target_text else ":")
        source_name, _, path = source_text.partition(":")
        target, source = by_name.get(target_name), by_name.get(source_name)
        if target is None or source is None or components.index(source) >= components.index(target):
            problems.append(f"{target_text} ← {source_text}: write it as in second.table_file ← first:data/a.csv")
            continue
        if pattern == "parallel":
            problems.append("skills that are run side by side do not feed one another")
            break
        chosen = next(((p, name) for p, name in inputs(target) if wanted in (p, name)), None)
        if chosen is None:
            known = ", ".join(name or p for p, name in inputs(target)) or "no file"
            problems.append(f"{target_name} does not read {wanted} (it reads {known})")
        elif path not in source.skill.output_schema:
            problems.append(f"{source_name} does not make {path} (it makes {', '.join(source.skill.output_schema)})")
        else:
            why = misfit(target, chosen[0], source.skill.output_schema[path], path, said=True)
            if why:
                problems.append(f"{source_name}:{path} does not fit {target_name}:{chosen[0]}: {why}")
            target.links.append(Link(source_name, path, target_name, chosen[0], chosen[1], "as was said"))
    return problems


def _find(component: Component, path: str, parameter: str, earlier: list[Component]) -> tuple[Link | None, str]:
    from cmbagent_nb.skills.composing.compose import Link

    base = Link("", "", component.folder, path, parameter)
    fits, alike = [], ""
    for source in reversed(earlier):
        for made, schema in source.skill.output_schema.items():
            why = misfit(component, path, schema, made)
            same_name = PurePosixPath(made).name == PurePosixPath(path).name
            if not why:
                fits.append((same_name, replace(base, source=source.folder, path=made)))
            elif same_name:
                alike = f"{source.folder}:{made} has the name of {component.folder}:{path}, but {why}"
    named = [link for same_name, link in fits if same_name]
    if named:
        return replace(named[0], how="the same name and content"), ""
    described = component.skill.input_schema.get(path, {}).get("kind") in ("table", "array", "arrays", "json")
    if len(fits) == 1 and described:
        return replace(fits[0][1], how="the only file with this content"), ""
    if len(fits) > 1 and described:
        several = ", ".join(f"{link.source}:{link.path}" for _, link in fits[:4])
        return None, f"several files fit {component.folder}:{path} ({several}): say which with connect="
    return None, alike


def misfit(component: Component, path: str, made: dict[str, Any], made_path: str, *, said: bool = False) -> str:
    """Return why an output cannot be an input, or nothing.

    What a person ``said`` is doubted only where it must fail: code may read several formats, and tables of any columns.
    """
    wanted = component.skill.input_schema.get(path, {})
    suffixes = [PurePosixPath(item).suffix.lower() for item in (made_path, path)]
    if suffixes[0] != suffixes[1] and not said:
        return f"it is a {suffixes[0] or 'plain'} file, and a {suffixes[1] or 'plain'} file is read"
    if wanted.get("kind") in (None, "other") or made.get("kind") in (None, "other"):
        if said:
            return ""
        return "" if PurePosixPath(made_path).name == PurePosixPath(path).name else "what is in it is not known"
    if wanted["kind"] != made["kind"]:
        return f"it holds {made['kind']}, and {wanted['kind']} is read"
    if wanted["kind"] == "table":
        from cmbagent_nb.skills.schema import missing_columns

        missing = missing_columns(wanted, made, _code(component))
        other = [
            f"{name} ({made['columns'][name]} for {kind})"
            for name, kind in wanted["columns"].items()
            if name in made["columns"] and _is_number(kind) and not _is_number(made["columns"][name])
        ]
        nothing_shared = not set(wanted["columns"]) & set(made["columns"])
        if missing or (nothing_shared and not said):
            return f"it has no column {', '.join(missing or wanted['columns'])}"
        return f"columns are of another kind: {', '.join(other)}" if other else ""
    if wanted["kind"] == "array":
        one, two = len(made["shape"]), len(wanted["shape"])
        return f"it has {one} dimension{'s' if one != 1 else ''}, and {two} are read" if one != two else ""
    if wanted["kind"] == "arrays":
        gone = set(wanted["arrays"]) - set(made["arrays"])
        return f"it has no array {', '.join(sorted(gone))}" if gone else ""
    if wanted["kind"] == "json":
        code = _code(component)
        gone = {
            key
            for key in set(wanted.get("keys", ())) - set(made.get("keys", ()))
            if f'"{key}"' in code or f"'{key}'" in code
        }
        if wanted.get("type") != made.get("type"):
            return f"it holds a {made.get('type')}, and a {wanted.get('type')} is read"
        return f"it has no key {', '.join(sorted(gone))}" if gone else ""
    return ""


def _is_number(kind: str) -> bool:
    return str(kind).startswith(("int", "float", "uint", "Int", "Float"))


def _code(component: Component) -> str:
    from cmbagent_nb.skills.source_hash import check_notebook

    cells = json.loads(check_notebook(component.skill))["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
