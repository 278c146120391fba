"""The verbs that look back at skills and make them better: figures, versions, comparisons, compositions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import UsageError
from cmbagent_nb.verbs.call import Call
from cmbagent_nb.verbs.declare import arg, count, verb
from cmbagent_nb.verbs.output import Output, grid, plain, rows
from cmbagent_nb.verbs.skill_parts import DESCRIPTION, REASON, SKILL, TAGS, VERSION_OF, made, progress, refuse, words

if TYPE_CHECKING:
    import pandas as pd

    from cmbagent_nb.skills.handle import Skill

_BY = ("version", "parameters", "cells", "errors")
_METRICS = ("usage", "success_rate", "speed", "cost", "adaptations", "saved")


@verb(
    "skill stats",
    SKILL,
    arg("--by", default="version", choices=_BY, metavar="BY", help=f"{', '.join(_BY)}: what the figures are of"),
    group="skills",
    aliases=("skill-stats", "skill performance"),
)
def stats(call: Call) -> Output:
    """Show how the versions of a skill have done: success, time, cost, adaptations."""
    skill = call.ws.skills.get(call.options.skill)
    frame = call.ws.skills.performance(skill, call.options.by)
    hidden = ("cell", "cost_usd", "mean_s", "example")
    columns = [str(name) for name in frame.columns if name not in hidden]
    none = f"There are no executions yet. Make one with {call.prog} skill run {skill.name}."
    return Output(frame, lambda: grid(rows(frame), columns, none), display=frame)


@verb(
    "skill usage",
    arg("--days", type=count, default=30, metavar="N", help="the last so many days (30)"),
    group="skills",
    aliases=("skill-usage",),
)
def usage(call: Call) -> Output:
    """Show how often skills were executed on each of the last days."""
    frame = call.ws.skills.analytics().usage(call.options.days)
    lines = [{**row, "day": str(row["day"])[:10]} for row in rows(frame)]

    def text() -> str:
        used = [row for row in lines if row["executions"]]
        none = f"No skill was executed in the last {call.options.days} days."
        return grid(used, [str(name) for name in frame.columns], none)

    return Output(lines, text, display=frame)


@verb(
    "skill analytics",
    arg("--top", type=count, default=10, metavar="N", help="so many skills (10)"),
    arg("--metric", default="usage", choices=_METRICS, metavar="M", help=f"rank by {', '.join(_METRICS)}"),
    arg("--days", type=count, default=30, metavar="N", help="usage of the last so many days (30)"),
    group="skills",
    aliases=("skill-analytics",),
)
def analytics(call: Call) -> Output:
    """Show what the executions of all skills say: top skills, cost and saving, adaptations, what is alike."""
    options = call.options
    found = call.ws.skills.analytics()
    parts: dict[str, pd.DataFrame] = {
        "top": found.top(options.metric, options.top),
        "usage": found.usage(options.days),
        "cost": found.cost(),
        "adaptations": found.adaptations().reset_index(),
        "consolidation": found.consolidation(),
    }

    def text() -> str:
        if parts["top"].empty:
            return f"No skill has been executed yet. Execute one with {call.prog} skill run SKILL."
        heads = {
            "top": f"Skills by {options.metric}",
            "cost": "Cost, and what was saved against the runs that they came from",
            "adaptations": "Adaptations",
            "consolidation": "Skills that do nearly the same",
        }
        lines = []
        for name, head in heads.items():
            frame = parts[name]
            if not frame.empty:
                lines += [f"{head}:", grid(rows(frame), [str(column) for column in frame.columns], ""), ""]
        return "\n".join(lines).rstrip()

    data = {name: plain(frame) for name, frame in parts.items()}
    for row in data["usage"]:
        row["day"] = str(row["day"])[:10]
    return Output(data, text, display=found)


@verb("skill versions", SKILL, group="skills", aliases=("skill-versions",))
def versions(call: Call) -> Output:
    """List the versions of a skill: what each is, comes from, and has done."""
    frame = call.ws.skills.get(call.options.skill).versions()
    columns = [
        "version",
        "status",
        "current",
        "verified",
        "parent",
        "executions",
        "success_rate",
        "median_s",
        "created_at",
        "reason",
    ]
    return Output(frame, lambda: grid(rows(frame), columns, ""), display=frame)


@verb(
    "skill diff",
    SKILL,
    arg("other", nargs="?", metavar="VERSION", help="the version to compare it with; the one before it if left out"),
    group="skills",
    aliases=("diff-skill",),
)
def diff(call: Call) -> Output:
    """Show how two versions of a skill differ: parameters, conditions, cells."""
    skill = call.ws.skills.get(call.options.skill)
    other = call.options.other
    found = call.ws.skills.diff(skill, _before(call, skill, "diff") if other is None else other)
    return Output(found.as_dict(), lambda: str(found), display=found)


def _before(call: Call, skill: Skill, command: str) -> int:
    numbers = [int(number) for number in skill.versions()["version"] if int(number) < skill.version]
    if not numbers:
        raise UsageError(
            f"there is no version of {skill.name} before v{skill.version}",
            f"Name one: {call.prog} skill {command} {skill.name} VERSION.",
        )
    return max(numbers)


@verb(
    "skill rollback",
    SKILL,
    arg("--version", required=True, metavar="N", help="the version that the name is to mean again"),
    REASON,
    group="skills",
    aliases=("rollback-skill",),
)
def rollback(call: Call) -> Output:
    """Let a skill's name mean an older version again; newer ones are deprecated."""
    options = call.options
    skill = call.ws.skills.get(options.skill).rollback(options.version, options.reason)
    return Output(skill.info.as_dict(), f"{skill.name} means v{skill.version} again.", display=skill)


@verb(
    "skill compose",
    arg("name", nargs="?", metavar="NAME", help="the name of the new skill"),
    arg("--name", dest="named", metavar="N", help="the name, in another way"),
    arg("--skills", required=True, metavar="A,B", help="the skills, in their order"),
    arg("--pattern", default="sequential", choices=("sequential", "parallel", "conditional"), metavar="P",
        help="sequential, parallel or conditional"),
    arg("--when", metavar="CONDITION", help="for conditional: such as 'chi2 < 1.5', of the first skill's numbers"),
    arg("--connect", action="append", default=[], metavar="B.INPUT=A:FILE", help="which input is which output"),
    arg("--share", default="", metavar="P,Q", help="parameters of one name that are one parameter"),
    VERSION_OF,
    TAGS,
    DESCRIPTION,
    group="skills",
    aliases=("compose-skills", "compose-skill"),
)  # fmt: skip
def compose(call: Call) -> Output:
    """Make one skill of several and verify it: one after the other, side by side, or where a condition holds."""
    from cmbagent_nb.skills.naming import check_name

    options = call.options
    names = words(options.skills)
    name = options.name or options.named
    if name is None and options.version_of is None:
        name = "_".join(item.partition("@")[0] for item in names)[:64]
    if name is not None:
        refuse(check_name, name)
    connect: dict[str, str] = {}
    for word in options.connect:
        target, equals, output = word.partition("=")
        if not equals or "." not in target or ":" not in output:
            raise UsageError(f"--connect cannot be {word!r}", "Write it as in second.table_file=first:data/a.csv.")
        connect[target] = output
    given: dict[str, Any] = {
        "version_of": options.version_of,
        "when": options.when,
        "connect": connect or None,
        "share": words(options.share),
    }
    given |= {"description": options.description, "tags": words(options.tags)}
    return made(call, call.ws.skills.compose(name, names, options.pattern, **given, on_progress=progress(call)))


@verb(
    "skill optimize",
    SKILL,
    arg("--apply", action="store_true", help="make the next version and verify it against past executions"),
    REASON,
    arg("--sample", type=count, default=5, metavar="N", help="how many past executions are run again (5)"),
    group="skills",
    aliases=("optimize-skill",),
)
def optimize(call: Call) -> Output:
    """Say what ten or more executions suggest for a skill; with --apply, make the next version."""
    options = call.options
    skill = call.ws.skills.get(options.skill)
    found = skill.optimize(
        apply=options.apply, reason=options.reason, sample=options.sample, on_progress=progress(call)
    )

    def text() -> str:
        lines = [str(found), *(f"  {item.kind}: {item.text}" for item in found.applied or found.recommendations)]
        if found.new is None and any(item.change for item in found.recommendations):
            lines.append(f"Make the next version with {call.prog} skill optimize {skill.name} --apply.")
        return "\n".join(lines)

    failed = found.new is not None and not found.verified
    return Output(found.as_dict(), text, display=found, exit_status=1 if failed else 0)


@verb(
    "skill ab",
    SKILL,
    arg("other", nargs="?", metavar="VERSION", help="the version to compare it with; the one before it if left out"),
    arg("--last", type=count, default=10, metavar="N", help="how many past executions both versions run again (10)"),
    group="skills",
    aliases=("skill-ab",),
)
def ab(call: Call) -> Output:
    """Compare two versions of a skill: both run the inputs of its last executions."""
    skill = call.ws.skills.get(call.options.skill)
    other = call.options.other or _before(call, skill, "ab")
    found = call.ws.skills.ab(skill, other, last=call.options.last, on_progress=progress(call))
    columns = ["execution_id", "status_a", "status_b", "seconds_a", "seconds_b", "equal", "difference"]

    def text() -> str:
        return "\n".join([grid(rows(found.frame()), columns, ""), str(found)])

    return Output(found.as_dict(), text, display=found)
