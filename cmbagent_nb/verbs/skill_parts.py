"""Holds the parts that several verbs about skills share: arguments, reading of values, showing a skill."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from cmbagent_nb.errors import SkillError, UsageError
from cmbagent_nb.verbs.call import Call
from cmbagent_nb.verbs.declare import arg
from cmbagent_nb.verbs.output import Output, grid

if TYPE_CHECKING:
    from cmbagent_nb.skills.handle import Skill

T = TypeVar("T")

SKILL = arg("skill", metavar="SKILL", help="a skill: its name, name@version, its id or a part of it")
TAGS = arg("--tags", default="", metavar="A,B", help="tags, by which the skill can be found")
DESCRIPTION = arg("--description", default="", metavar="TEXT", help="what the skill is for")
VERSION_OF = arg("--version-of", metavar="SKILL", help="make it the next version of this skill")
REASON = arg("--reason", default="", metavar="TEXT", help="why, which is kept with the version")


def words(text: str) -> list[str]:
    """Read a list of words.

    >>> words("a, b,")
    ['a', 'b']
    """
    return [word.strip() for word in text.split(",") if word.strip()]


def values(call: Call, given: list[str]) -> dict[str, Any]:
    """Read ``NAME=VALUE`` words; in a notebook a value may be a variable's name, such as that of a DataFrame."""
    found: dict[str, Any] = {}
    for word in given:
        name, equals, value = word.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(
                f"{word!r} is no value for a parameter", "Write NAME=VALUE, without blanks around the '='."
            )
        if name in found:
            raise UsageError(f"{name} is given twice", "Give it once.")
        found[name] = value
        if call.namespace is not None and value.isidentifier() and value in call.namespace:
            found[name] = call.namespace[value]
    return found


def refuse(check: Callable[..., T], *arguments: Any, **options: Any) -> T:
    """Check something before anything starts: what is not right then is wrong use, not a skill that failed."""
    try:
        return check(*arguments, **options)
    except SkillError as error:
        raise UsageError(error.what, error.next_step, **error.data) from error


def checked(skill: Skill, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return values that the skill takes, and refuse others."""
    from cmbagent_nb.skills.running.check import check_parameters

    refuse(check_parameters, skill.info, dict(given))
    return dict(given)


def progress(call: Call, *, own_bar: bool = False, begins: str = "") -> Any:
    """Return what a skill reports its progress to, if anything.

    Parameters
    ----------
    own_bar
        In a notebook it shows a bar itself.
    begins
        What is said at once, before the workspace is opened.
    """
    if call.options.json or (own_bar and call.front == "magic"):
        return None
    said: list[str] = []

    def report(done: int, total: int, what: str) -> None:
        line = f"{done}/{total} {what}"
        if said[-1:] != [line]:
            said.append(line)
            call.say(line)

    if begins:
        report(0, 1, begins)
    return report


def about(skill: Skill) -> dict[str, Any]:
    """Return all that is known of a skill, as JSON shows it."""
    return {
        **skill.info.as_dict(),
        "description": skill.info.description,
        "tags": skill.info.tags,
        "task": skill.info.task,
        "source_run_id": skill.info.source_run_id,
        "steps": skill.info.steps,
        "trusted": skill.info.trusted,
        "usage_count": skill.info.usage_count,
        "success_count": skill.info.success_count,
        "failure_count": skill.info.failure_count,
        "avg_execution_time_s": skill.info.avg_execution_time_s,
        "created_at": skill.info.created_at,
    }


def skill_text(skill: Skill) -> str:
    """Write a skill as a terminal shows it."""
    parts = [str(skill), f"  notebook  {skill.notebook}"]
    if skill.info.description:
        parts.append(f"  {skill.info.description}")
    if skill.parameters:
        rows = [item.as_dict() for item in skill.parameters]
        parts += ["", grid(rows, ["name", "type", "default", "unit", "kind", "help"], "")]
    parts += [f"  note: {note}" for note in skill.info.verification.get("notes") or ()]
    return "\n".join(parts)


def made(call: Call, skill: Skill) -> Output:
    """Give back a skill that was made or verified. A draft is kept, but it is not what was asked for."""

    def text() -> str:
        written = skill_text(skill)
        if skill.verified:
            return f"{written}\nRun it with {call.prog} skill run {skill.name}."
        return f"{written}\nIt is kept as a draft. Look at it with {call.prog} skill code {skill.name}@{skill.version}."

    return Output(skill.info.as_dict(), text, display=skill, exit_status=0 if skill.verified else 1)
