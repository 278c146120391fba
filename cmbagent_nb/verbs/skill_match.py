"""The verbs that find skills: for a task, and in what was done again and again."""

from __future__ import annotations

import argparse
from typing import Any

from cmbagent_nb.errors import UsageError
from cmbagent_nb.verbs.call import Call
from cmbagent_nb.verbs.declare import arg, count, verb
from cmbagent_nb.verbs.output import Output, grid, plain
from cmbagent_nb.verbs.run import inputs_of
from cmbagent_nb.verbs.skill_parts import words


def share(text: str) -> float:
    """Read a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return value


@verb(
    "skill match",
    arg("task", nargs="+", metavar="TASK", help="what is to be done, in words"),
    arg("--limit", dest="k", type=count, default=5, metavar="N", help="at most so many, the best (5)"),
    arg("--min-similarity", type=share, metavar="S", help="the score from which a skill fits (0.7)"),
    arg("--tags", default="", metavar="A,B", help="only skills that have all these tags"),
    arg("--exclude-failed", action="store_true", help="leave out skills whose last execution failed"),
    arg("--in", dest="inputs", metavar="X", nargs="+", action="extend", default=[],
        help="the data at hand, which a skill must be able to take: files, and in a notebook variables"),
    arg("--explain", action="store_true", help="show the likeliest below the limit, too"),
    group="skills",
    aliases=("match-skill",),
)  # fmt: skip
def match(call: Call) -> Output:
    """Find the skills that fit a task, the best first, with reasons; none where none fits."""
    options = call.options
    task = " ".join(options.task).strip()
    if not task:
        raise UsageError("there is no task", f'Say what is to be done: {call.prog} skill match "TASK".')
    inputs = inputs_of(call, options.inputs) or None
    columns = ["name", "version", "score", "semantic", "lexical", "tags", "reason"]
    if options.explain:
        frame = call.ws.skills.explain(task, k=options.k, inputs=inputs)
        lines = plain(frame)
        return Output(lines, lambda: grid(lines, ["fits", *columns], "There are no skills yet."), display=frame)
    found = call.ws.skills.match(
        task,
        k=options.k,
        min_similarity=options.min_similarity,
        required_tags=words(options.tags),
        exclude_failed=options.exclude_failed,
        inputs=inputs,
    )
    lines = [_first(item.as_dict(), columns) for item in found]
    none = f"No skill fits. See what came near with {call.prog} skill match --explain, or start a run of the task."
    return Output(lines, lambda: grid(plain(lines), columns, none))


def _first(row: dict[str, Any], names: list[str]) -> dict[str, Any]:
    return {**{name: row[name] for name in names}, **row}


@verb(
    "skill composable",
    arg("task", nargs="+", metavar="TASK", help="what is to be done, in words; it has several parts"),
    arg("--limit", dest="k", type=count, default=3, metavar="N", help="at most so many, the best (3)"),
    group="skills",
    aliases=("find-composable",),
)
def composable(call: Call) -> Output:
    """Find skills that do a task together, with the call that composes them; none where a part has no skill."""
    found = call.ws.skills.composable(" ".join(call.options.task), k=call.options.k)

    def text() -> str:
        if not found:
            return f"No skills do this together. Look for one: {call.prog} skill match --explain TASK."
        lines = []
        for item in found:
            names = ",".join(skill.name for skill in item.skills)
            lines += [f"{' + '.join(skill.name for skill in item.skills)} ({item.pattern}): {item.reason}"]
            lines += [f"  {call.prog} skill compose --skills {names} --pattern {item.pattern} --name NAME"]
        return "\n".join(lines)

    return Output([item.as_dict() for item in found], text)


@verb(
    "skill suggest",
    arg("--limit", type=count, default=10, metavar="N", help="at most so many, the best (10)"),
    group="skills",
    aliases=("suggest-skills",),
)
def suggest(call: Call) -> Output:
    """Find what succeeded in three or more runs and is no skill yet, with the evidence."""
    found = call.ws.skills.suggest()[: call.options.limit]

    def text() -> str:
        if not found:
            return "Nothing has succeeded in three or more runs that is no skill yet."
        lines = []
        for item in found:
            first = item.evidence[0]
            lines.append(f"{item.name}: {' → '.join(item.titles)}")
            lines.append(f"  in {item.runs} runs: {', '.join(str(row['run']) for row in item.evidence[:5])}")
            steps = ",".join(str(node).removeprefix("step_") for node in first["steps"])
            lines.append(f"  {call.prog} skill extract {first['run_id'][-8:]} --steps {steps} --name {item.name}")
        return "\n".join(lines)

    return Output([item.as_dict() for item in found], text)
