"""The verbs that run skills: once, over a grid, again from where one stood; and what came of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import UsageError
from cmbagent_nb.verbs.call import Call
from cmbagent_nb.verbs.declare import LIMIT, arg, count, verb
from cmbagent_nb.verbs.output import Output, grid, rows, table
from cmbagent_nb.verbs.run import wait
from cmbagent_nb.verbs.skill_parts import SKILL, checked, progress, refuse, values

if TYPE_CHECKING:
    from cmbagent_nb.skills.handle import Skill
    from cmbagent_nb.skills.running.execution import SkillExecution

_AS_RUN = ("guided", "adapt", "strict", "task", "model", "approve", "name")


@verb(
    "skill run",
    SKILL,
    arg("values", nargs="*", metavar="NAME=VALUE", help="values for its parameters"),
    arg("--guided", action="store_true", help="let agents fit its code to --task; its steps are the plan"),
    arg("--adapt", action="store_true", help="where it deviates, let agents go on with it"),
    arg("--strict", action="store_true", help="fail where it deviates from what has been seen"),
    arg("--task", metavar="TASK", help="what is to be done, if not what the skill was made for"),
    arg("--model", metavar="M", help="the model of the agents: provider:name, playbook:NAME or auto"),
    arg("--approve", metavar="GATES", help="gates that open, such as error, or a preset such as copilot"),
    arg("--name", metavar="N", help="a name for the run"),
    group="skills",
    aliases=("run-skill",),
)
def run(call: Call) -> Output:
    """Run a skill with other values for some of its parameters.

    No model is called, unless --guided or --adapt ask for agents. With one of the options it is recorded as a
    run, with a graph and steps; without, it is an execution in a kernel of its own.
    """
    options = call.options
    skill = call.ws.skills.get(options.skill)
    given = checked(skill, values(call, options.values))
    if any(getattr(options, name) for name in _AS_RUN):
        return _as_run(call, skill, given)
    return _ended(call.ws.skills.execute(skill, given, on_progress=progress(call, own_bar=True)))


def _as_run(call: Call, skill: Skill, given: dict[str, Any]) -> Output:
    options = call.options
    if options.strict and options.adapt:
        raise UsageError("--strict and --adapt exclude each other", "Leave one of them out.")
    asked = {name: getattr(options, name) for name in ("task", "model", "approve", "name")}
    started = call.ws.run_skill(
        skill,
        given,
        mode="guided" if options.guided else "direct",
        allow_adaptation=options.adapt or (options.guided and not options.strict),
        strict_mode=options.strict,
        **{name: value for name, value in asked.items() if value is not None},
    )
    if call.front == "magic":
        said = f"Run {started.name} of skill {skill.name} has started."
        return Output({"run_id": started.id, "name": started.name, "status": started.status}, said, display=started)
    ended = wait(call, call.ws, started)
    found = call.ws.skills.executions()
    own = rows(found[found["run_id"] == started.id])
    about = {} if not own else _brief(own[0])
    ended_data = {**about, **ended.data, "outputs": about.get("outputs") or ended.data["files"]}
    return Output(ended_data, lambda: ended.text, display=started, exit_status=ended.exit_status)


def _brief(row: dict[str, Any]) -> dict[str, Any]:
    names = ("skill", "version", "parameters", "outputs", "metrics", "adapted", "adaptations")
    return {"execution_id": row["id"], **{name: row[name] for name in names}}


def _ended(execution: SkillExecution) -> Output:
    def text() -> str:
        lines = [str(execution), f"  work dir  {execution.work_dir}"]
        lines += [f"            {path}" for path in execution.outputs]
        lines += [f"  {name} = {value:.6g}" for name, value in list(execution.metrics.items())[:30]]
        return "\n".join(lines)

    return Output(execution.as_dict(), text, display=execution, exit_status=0 if execution.success else 1)


@verb(
    "skill resume",
    arg("execution", metavar="EXECUTION", help="an execution that did not come to its end: its id or a part of it"),
    group="skills",
)
def resume(call: Call) -> Output:
    """Go on with an execution that was killed, stopped or failed, after its last finished step."""
    from cmbagent_nb.skills.running.executions import find_execution

    row = find_execution(call.ws._core.db, call.ws._core.writer, call.options.execution)
    skill = call.ws.skills.get(row["skill_id"])
    return _ended(skill.resume(row["id"], on_progress=progress(call, own_bar=True)))


@verb(
    "skill sweep",
    SKILL,
    arg("values", nargs="+", metavar="NAME=A,B,C", help="values for its parameters, or a list as JSON: NAME=[1,2]"),
    arg("--parallel", type=count, metavar="N", help="how many run at once (one a processor)"),
    arg("--scheduler", default="local", choices=("local", "dask"), metavar="WHERE", help="local or dask"),
    group="skills",
    aliases=("sweep-skill",),
)
def sweep(call: Call) -> Output:
    """Run a skill for every combination of values; a row of results for each."""
    from cmbagent_nb.skills.running.check import check_parameters
    from cmbagent_nb.skills.running.sweep import combinations

    options = call.options
    skill = call.ws.skills.get(options.skill)
    lists = {name: _several(skill, name, value) for name, value in values(call, options.values).items()}
    for point in refuse(combinations, skill.info, lists):
        refuse(check_parameters, skill.info, point)
    bar = progress(call, own_bar=True)
    frame = skill.sweep(lists, parallel=options.parallel, scheduler=options.scheduler, on_progress=bar)
    failed = int((frame["status"] != "completed").sum())

    def text() -> str:
        hidden = {"outputs", "work_dir", "sweep_id", "notebook", "metrics", "error"}
        columns = [str(name) for name in frame.columns if name not in hidden]
        said = f"{len(frame) - failed} of {len(frame)} combinations succeeded"
        return f"{grid(rows(frame), [*columns, *(['error'] if failed else [])], '')}\n{said}."

    return Output(frame, text, display=frame, exit_status=1 if failed else 0)


def _several(skill: Skill, name: str, value: Any) -> Any:
    """Read the values of one parameter: ``1,2,3``, or JSON where a value has a comma or is a list itself."""
    if not isinstance(value, str):
        return value
    from cmbagent_nb.skills.running.check import find_parameter

    parameter, text = refuse(find_parameter, skill.info, name), value.strip()
    if text.startswith("["):
        try:
            found = json.loads(text)
        except ValueError as error:
            step = f"Write {name}=1,2 or {name}='[1, 2]'."
            raise UsageError(f"{name} is no list in JSON ({error})", step) from None
    elif parameter.type == "list":
        found = [text]
    else:
        found = [part.strip() for part in text.split(",") if part.strip()]
    if parameter.kind != "value" or parameter.type == "list":
        return found
    return [refuse(parameter.check, item, skill.name) for item in found]


@verb(
    "skill executions",
    arg("skill", nargs="?", metavar="SKILL", help="a skill; those of all skills if left out"),
    LIMIT,
    group="skills",
    aliases=("skill-executions",),
)
def executions(call: Call) -> Output:
    """List the executions of a skill, all versions of it, or of all skills."""
    options = call.options
    frame = call.ws.skills.get(options.skill).executions() if options.skill else call.ws.skills.executions()
    columns = "id skill version status mode started_at duration_s cost_usd adapted parameters error"
    none = f"There are no executions yet. Make one with {call.prog} skill run SKILL."
    return table(frame, columns, limit=options.limit, none=none)


@verb(
    "skill compare-runs",
    SKILL,
    arg("executions", nargs="*", metavar="EXECUTION", help="executions by their ids; the newest ten if left out"),
    group="skills",
    aliases=("compare-skill-runs", "skill compare"),
)
def compare_runs(call: Call) -> Output:
    """Put executions of a skill beside each other: parameters, metrics, time, cost."""
    skill = call.ws.skills.get(call.options.skill)
    frame = call.ws.skills.compare_executions(skill, *call.options.executions)

    def text() -> str:
        lines = rows(frame)
        if not lines:
            return f"There are no executions yet. Make one with {call.prog} skill run {skill.name}."
        kept = ("status", "duration_s")
        names = [str(name) for name in frame.columns if name != "execution_id"]
        differ = [name for name in names if len({json.dumps(line[name], default=str) for line in lines}) > 1]
        shown = [name for name in names if name in kept or name in differ or len(lines) == 1]
        heads = [line["execution_id"][-8:] for line in lines]
        table = [
            {"": name, **{head: line[name] for head, line in zip(heads, lines, strict=True)}}
            for name in shown
            if any(line[name] is not None for line in lines)
        ]
        alike = len(names) - len(shown)
        return grid(table, ["", *heads], "") + (f"\n{alike} more are alike." if alike else "")

    return Output(frame, text, display=frame)
