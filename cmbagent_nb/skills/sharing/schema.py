"""Checks ``skill.json``, so that no reader of an imported skill needs to check its columns again."""

from __future__ import annotations

import keyword
from collections import Counter
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from cmbagent_nb.errors import SkillError
from cmbagent_nb.skills import naming
from cmbagent_nb.skills.model import Parameter
from cmbagent_nb.skills.sharing.package import ROW, check_path, refused


def _filled(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ValueError("it is empty or cannot be printed")
    return text


def _inside(path: str) -> str:
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        raise ValueError("the path leads out of the skill's folder")
    return path


def _identifier(name: str) -> str:
    if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("__"):
        raise ValueError(f"{name[:80]!r} cannot be the name of a parameter")
    return name


def _each_once(items: list[_Parameter]) -> list[_Parameter]:
    name, count = Counter(item.name for item in items).most_common(1)[0] if items else ("", 0)
    if count > 1:
        raise ValueError(f"two parameters have the name {name}")
    return items


_Filled = Annotated[str, AfterValidator(_filled)]
_Inside = Annotated[_Filled, AfterValidator(_inside)]
_Values = dict[str, Any]


class _Model(BaseModel):
    """A part of ``skill.json``; entries that a later version adds are passed over."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)


class _Parameter(_Model):
    name: Annotated[str, AfterValidator(_identifier)]
    type: Literal["int", "float", "str", "bool", "list", "dict", "any"]
    default: Any
    kind: Literal["value", "input", "output"] = "value"
    help: str = ""
    unit: str = ""
    source: str = ""
    form: str = ""
    optional: bool = False
    steps: list[str] | None = None
    seen: list[Any] | None = None
    choices: list[Any] | None = None

    @model_validator(mode="after")
    def _check_default(self) -> _Parameter:
        try:
            Parameter.from_dict(self.model_dump()).check(self.default)
        except (SkillError, TypeError, ValueError) as error:
            raise ValueError(f"the default of {self.name} is of another type") from error
        if self.kind != "value":
            if not isinstance(self.default, str):
                raise ValueError(f"the default of {self.name} is not a path")
            check_path(self.default)
        return self


class _ParameterCondition(_Model):
    parameter: str
    op: str
    value: Any


class _Preconditions(_Model):
    packages: dict[_Filled, str] | None = None
    files: list[_Filled] | None = None
    inputs: list[str] | None = None
    columns: dict[str, list[str]] | None = None
    parameters: list[_ParameterCondition] | None = None


class _Postconditions(_Model):
    files: list[_Inside] | None = None
    ranges: dict[_Inside, _Values] | None = None


class _FileSchema(_Model):
    kind: Any = None
    columns: Any = None

    @model_validator(mode="after")
    def _check_columns(self) -> _FileSchema:
        if self.kind == "table" and not isinstance(self.columns, dict):
            raise ValueError("a table needs columns")
        return self


class _Node(_Model):
    id: _Filled


class _Graph(_Model):
    nodes: list[_Node] | None = None
    edges: list[Annotated[list[str], Field(min_length=2, max_length=2)]] | None = None
    parallel: list[list[str]] | None = None
    gates: list[str] | None = None
    retry: _Values | None = None


class _SkillFile(_Model):
    name: Annotated[str, AfterValidator(naming.check_name)]
    version: int
    parameters: Annotated[list[_Parameter], AfterValidator(_each_once)]
    description: str | None = None
    tags: list[str] | None = None
    task_pattern: str | None = None
    input_schema: dict[_Inside, _FileSchema] | None = None
    output_schema: dict[_Inside, _FileSchema] | None = None
    preconditions: _Preconditions | None = None
    postconditions: _Postconditions | None = None
    source_step_range: list[Any] | str | None = None
    dag_template: _Graph | None = None
    agent_sequence: list[str] | None = None
    context_requirements: _Values | list[Any] | None = None
    verification: _Values | None = None
    visibility: Literal["private", "public"] | None = None
    license: str = ""
    made_by: str = ""
    made_on: _Values = {}


def check(about: _Values) -> None:
    """Refuse what ``skill.json`` says when an entry is not as it must be.

    Raises
    ------
    SkillRefused
        It names the entry and the reason.
    """
    try:
        _SkillFile.model_validate(about)
    except ValidationError as found:
        error = found.errors(include_url=False, include_input=False)[0]
        entry = ".".join(str(part) for part in error["loc"])
        why = error["msg"].removeprefix("Value error, ")
        raise refused(
            f"{entry} in its {ROW} is not valid: {why}",
            f"Correct {entry} where the skill was made, and export it again.",
            path=ROW,
            entry=entry,
        ) from None
