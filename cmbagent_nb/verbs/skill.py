"""The verbs about skills."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import SkillError, UsageError
from cmbagent_nb.verbs.call import Call
from cmbagent_nb.verbs.declare import arg, verb
from cmbagent_nb.verbs.output import Output, grid, table

if TYPE_CHECKING:
    from cmbagent_nb.skills.library import Skill

_SKILL = arg("skill", metavar="SKILL", help="a skill: its name, name@version, its id or a part of it")


@verb("skills", group="skills", aliases=("list-skills",))
def skills(call: Call) -> Output:
    """List the skills of the workspace."""
    from cmbagent_nb.skills.rows import interrupt_executions

    interrupt_executions(call.ws.db, call.ws.writer)
    columns = "id name version status source_run_id usage_count avg_execution_time_s created_at description"
    none = f"There are no skills yet. Make one with {call.prog} skill extract RUN STEP --name NAME."
    return table(call.ws.skills(), columns, none=none)


@verb("skill show", _SKILL, group="skills", aliases=("show-skill",))
def show(call: Call) -> Output:
    """Show a skill: what it takes, how it was verified, where its notebook is."""
    skill = call.ws.skill(call.options.skill)
    data = {
        **skill.as_dict(),
        "description": skill.description,
        "tags": skill.tags,
        "task": skill.task,
        "source_run_id": skill.source_run_id,
        "steps": skill.steps,
        "trusted": skill.trusted,
        "usage_count": skill.usage_count,
        "success_count": skill.success_count,
        "failure_count": skill.failure_count,
        "avg_execution_time_s": skill.avg_execution_time_s,
        "created_at": skill.created_at,
    }
    return Output(data, lambda: _text(skill), display=skill)


@verb(
    "skill extract",
    arg("run", metavar="RUN", help="a run that has ended: its name, its id or a part of it"),
    arg("range", nargs="?", metavar="STEP[-STEP]", help="the steps, such as 1, 1-3 or 1,3; all by default"),
    arg("--steps", metavar="STEPS", help="the steps, in another way"),
    arg("--name", metavar="N", required=True, help="the name of the skill"),
    arg("--tags", default="", metavar="A,B", help="tags, by which the skill can be found"),
    arg("--description", default="", metavar="TEXT", help="what the skill is for"),
    group="skills",
    aliases=("extract-skill",),
)
def extract(call: Call) -> Output:
    """Make a skill of a run's steps and verify it in a fresh kernel; no model is asked."""
    options = call.options
    if options.range and options.steps:
        raise UsageError("the steps are given twice", "Give them either as STEP[-STEP] or with --steps.")
    run = call.run()
    skill = run.extract_skill(
        options.name,
        options.range or options.steps,
        tags=[tag.strip() for tag in options.tags.split(",") if tag.strip()],
        description=options.description,
        on_progress=_progress(call),
    )
    # A draft is kept, but it is not what was asked for: a skill that reproduces the run.
    return Output(skill.as_dict(), lambda: _text(skill), display=skill, exit_status=0 if skill.verified else 1)


@verb("skill verify", _SKILL, group="skills")
def verify(call: Call) -> Output:
    """Run a skill with its defaults in a fresh kernel and compare what it makes with its run's files."""
    from cmbagent_nb.skills.again import verify_again

    skill = verify_again(call.ws.skill(call.options.skill), on_progress=_progress(call))
    return Output(skill.as_dict(), lambda: _text(skill), display=skill, exit_status=0 if skill.verified else 1)


@verb(
    "skill run",
    _SKILL,
    arg("values", nargs="*", metavar="NAME=VALUE", help="values for its parameters"),
    group="skills",
)
def run(call: Call) -> Output:
    """Run a skill with other values for some of its parameters; no model is called."""
    skill = call.ws.skill(call.options.skill)
    values: dict[str, Any] = {}
    for word in call.options.values:
        name, equals, value = word.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(
                f"{word!r} is no value for a parameter", "Write NAME=VALUE, without blanks around the '='."
            )
        values[name] = value
        # In a notebook a name may be a variable's, such as a DataFrame for an input file.
        if call.namespace is not None and value in call.namespace and value.isidentifier():
            values[name] = call.namespace[value]
    _check(skill, values)
    # In a notebook the skill shows its own progress bar.
    progress = None if call.front == "magic" else _progress(call)
    execution = skill.execute(values, on_progress=progress)

    def text() -> str:
        lines = [str(execution), f"  work dir  {execution.work_dir}"]
        lines += [f"            {path}" for path in execution.outputs]
        lines += [f"  {name} = {value:.6g}" for name, value in list(execution.metrics.items())[:30]]
        return "\n".join(lines)

    return Output(execution.as_dict(), text, display=execution, exit_status=0 if execution.success else 1)


def _check(skill: Skill, values: dict[str, Any]) -> None:
    """Refuse values that the skill does not take: that is wrong use, not a skill that failed."""
    from cmbagent_nb.skills.check import check_parameters

    try:
        check_parameters(skill, values)
    except SkillError as error:
        raise UsageError(error.what, error.next_step, **error.data) from error


def _text(skill: Skill) -> str:
    parts = [str(skill), f"  notebook  {skill.notebook}"]
    if skill.parameters:
        rows = [item.as_dict() for item in skill.parameters]
        parts += ["", grid(rows, ["name", "type", "default", "unit", "kind", "help"], "")]
    parts += [f"  note: {note}" for note in skill.verification.get("notes") or ()]
    return "\n".join(parts)


def _progress(call: Call) -> Any:
    """Return what a skill reports its progress to."""
    if call.options.json:
        return None
    said: list[str] = []

    def report(done: int, total: int, what: str) -> None:
        line = f"{done}/{total} {what}"
        if said[-1:] != [line]:
            said.append(line)
            call.say(line)

    return report
