"""The functions of the skill packages for tests that hold a `Skill`, as users do: records in, handles out."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from cmbagent_nb.skills import library
from cmbagent_nb.skills.api import SkillLibrary
from cmbagent_nb.skills.composing import compose as composing
from cmbagent_nb.skills.extracting import create as creating
from cmbagent_nb.skills.extracting import extract as extracting
from cmbagent_nb.skills.handle import Skill
from cmbagent_nb.skills.verifying import again
from cmbagent_nb.workflow.workspace_core import WorkspaceCore


def held(record: library.SkillRecord) -> Skill:
    """Return a record as a user holds it."""
    return Skill(record, SkillLibrary(WorkspaceCore(record.home, {"database_url": record.db.url})))


def record(value: Any) -> Any:
    """Return the records of handles, also inside of a list."""
    if isinstance(value, list):
        return [record(item) for item in value]
    return value.info if isinstance(value, Skill) else value


def holding(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function take and return handles."""

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        found = function(*map(record, arguments), **{name: record(value) for name, value in options.items()})
        return held(found) if isinstance(found, library.SkillRecord) else found

    return call


find = holding(library.find)
load = holding(library.load)
add = holding(library.add)
create = holding(creating.create)
extract = holding(extracting.extract)
compose = holding(composing.compose)
plan = holding(composing.plan)
verify_again = holding(again.verify_again)
