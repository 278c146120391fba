"""Checks names, types, files, columns and packages before a skill starts. Nothing has been made by then.

| told before, not after | how |
|---|---|
| a name that is no parameter, a value of the wrong type | :meth:`Parameter.check`, with the name that was meant |
| a file that is not there, or lacks a column that the code names | its schema against that of the skill's own |
| a package that is missing, or whose version the skill rules out | the skill's preconditions |
| a file outside the skill that the code reads | the same |

What does not forbid the start, such as another major version of a package, is a note of the execution.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from cmbagent_nb.errors import SkillError
from cmbagent_nb.settings import user_path
from cmbagent_nb.skills.library import NOTEBOOK, SkillRecord
from cmbagent_nb.skills.model import Parameter
from cmbagent_nb.skills.source_hash import check_notebook


def check_parameters(skill: SkillRecord, given: dict[str, Any]) -> dict[str, Any]:
    """Return the values by the parameters' own names, converted; refuse what does not fit.

    A name may be written in any case, and an input file's without its ``_file``.
    """
    values: dict[str, Any] = {}
    chosen = frozenset(find_parameter(skill, name).name for name in given)
    for name, value in given.items():
        parameter = find_parameter(skill, name)
        if parameter.name in values:
            raise SkillError(f"parameter {parameter.name} is given twice", "Give it once.", parameter=parameter.name)
        if parameter.kind == "input":
            values[parameter.name] = _check_input(skill, parameter, value, chosen)
        elif parameter.kind == "output":
            values[parameter.name] = _check_output(skill, parameter, value)
        else:
            values[parameter.name] = parameter.check(value, skill.name)
    _check_named_columns(skill, values)
    return values


def find_parameter(skill: SkillRecord, name: str) -> Parameter:
    lower = name.casefold()
    tests: list[Callable[[str], bool]] = [
        lambda known: known == name,
        lambda known: known.casefold() == lower,
        lambda known: known.casefold() == f"{lower}_file",
    ]
    for test in tests:
        found = [item for item in skill.parameters if test(item.name)]
        if len(found) == 1:
            return found[0]
    names = [item.name for item in skill.parameters]
    folded = {item.casefold(): item for item in names}
    close = difflib.get_close_matches(lower, folded, n=1)
    hint = f"Did you mean {folded[close[0]]}? " if close else ""
    known = f"It has: {', '.join(item.text() for item in skill.parameters)}." if names else "It has none."
    raise SkillError(f"skill {skill.name} has no parameter {name!r}", hint + known, parameter=name)


def _check_input(skill: SkillRecord, parameter: Parameter, value: Any, chosen: frozenset[str]) -> Any:
    """Return a path to a file that is there, or a variable that can be stored as one."""
    if not isinstance(value, (str, os.PathLike)):
        suffix = PurePosixPath(parameter.default).suffix.lower()
        fits = {
            ".parquet": "columns", ".feather": "columns", ".csv": "columns", ".tsv": "columns", ".npy": "dtype",
        }.get(suffix)  # fmt: skip
        if not (fits and hasattr(value, fits)) and not (suffix == ".json" and isinstance(value, (dict, list))):
            raise SkillError(
                f"parameter {parameter.name} of skill {skill.name} is a {suffix or 'plain'} file, "
                f"which a {type(value).__name__} cannot be written as",
                "Give the path of a file.",
                parameter=parameter.name,
            )
        found = {"kind": "table", "columns": {str(name): "" for name in value.columns}} if fits == "columns" else {}
        _check_columns(skill, parameter, found, "the variable", chosen)
        return value
    text = os.fspath(value)
    if text == parameter.default:
        return text
    path = user_path(text)
    if not path.is_file():
        raise SkillError(
            f"the file {text} for parameter {parameter.name} is not there",
            "Check the path; it is taken from the current folder.",
            parameter=parameter.name,
            path=text,
        )
    from cmbagent_nb.skills.schema import describe

    _check_columns(skill, parameter, describe(path), f"the file {text}", chosen)
    return str(path)


def own_files(skill: SkillRecord, values: dict[str, Any]) -> list[str]:
    """Say where a file of the skill is taken though there is one of the same name in the current folder."""
    return [
        f"{item.default} for {item.name} is the skill's own file; write ./{item.default} for the one in this folder."
        for item in skill.parameters
        if item.kind == "input" and isinstance(given := values.get(item.name), str)
        if given == item.default and Path(given).is_file()
    ]


def _check_columns(
    skill: SkillRecord, parameter: Parameter, found: dict[str, Any], what: str, chosen: frozenset[str]
) -> None:
    from cmbagent_nb.skills.schema import missing_columns

    expected = _expected(skill, parameter)
    missing = missing_columns(expected, found, _code(skill, chosen)) if expected else []
    if missing:
        raise SkillError(
            f"{what} for parameter {parameter.name} has no column {', '.join(missing)}",
            f"Skill {skill.name} was made with the columns {', '.join(expected['columns'])}.",
            parameter=parameter.name,
            columns=missing,
        )


def _expected(skill: SkillRecord, parameter: Parameter) -> dict[str, Any]:
    """Return the schema of the file that an input parameter names by default."""
    found: dict[str, Any] = skill.input_schema.get(parameter.default) or next(
        (item for path, item in skill.input_schema.items() if PurePosixPath(path).name == parameter.default), {}
    )
    return found


def _check_named_columns(skill: SkillRecord, values: dict[str, Any]) -> None:
    """Refuse a text that should name a column, as its default does, when the table has no such column."""
    texts = [item for item in skill.parameters if item.kind == "value" and item.type == "str" and item.name in values]
    for table in (item for item in skill.parameters if item.kind == "input" and texts):
        columns = _expected(skill, table).get("columns") or {}
        selectors = [item for item in texts if item.default in columns]
        given = values.get(table.name, table.default)
        if selectors and hasattr(given, "columns"):
            columns = {str(name): "" for name in given.columns}
        elif selectors and given != table.default:
            from cmbagent_nb.skills.schema import describe

            columns = describe(Path(given)).get("columns") or {}
        for item in selectors:
            if values[item.name] not in columns:
                raise SkillError(
                    f"the table for parameter {table.name} has no column {values[item.name]!r}, as {item.name} says",
                    f"It has the columns {', '.join(columns)}.",
                    parameter=item.name,
                    columns=[values[item.name]],
                )


def _code(skill: SkillRecord, chosen: frozenset[str] = frozenset()) -> str:
    """Return the code of a skill, without the defaults of the parameters that are chosen."""
    cells = json.loads(check_notebook(skill))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    default = re.compile(rf"(?:{'|'.join(map(re.escape, sorted(chosen)))})\s*[:=]") if chosen else None
    return "\n".join(line for line in text.splitlines() if default is None or not default.match(line))


def _check_output(skill: SkillRecord, parameter: Parameter, value: Any) -> str:
    text = str(parameter.check(os.fspath(value) if isinstance(value, os.PathLike) else value, skill.name))
    pure = PurePosixPath(text)
    named = pure.name and not text.endswith("/") and text.isprintable()
    if not text.strip() or not named or pure.is_absolute() or ".." in pure.parts or str(pure) == NOTEBOOK:
        raise SkillError(
            f"{text!r} for parameter {parameter.name} is not a file name within the execution's folder",
            f"Give one such as {parameter.default}.",
            parameter=parameter.name,
        )
    return text
