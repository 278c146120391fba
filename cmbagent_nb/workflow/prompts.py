"""The words that agents are given: the task, what is known, and what went wrong before.

Prompts name files relative to the work dir and hold no clock and no absolute path, so that the same
run asks the same questions again and a recorded reply can be found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cmbagent_nb.execution.terminal import report
from cmbagent_nb.store.json import to_json
from cmbagent_nb.workflow.plan import Plan, Step

#: Characters of output, and of a small data file, that a prompt quotes.
OUTPUT_CHARS = 4000
FILE_CHARS = 1500


@dataclass(frozen=True)
class Failure:
    """Why an attempt failed, with what is needed to mend it."""

    attempt: int
    error: str
    code: str = ""
    output: str = ""
    suggestion: str = ""
    #: What a person said who did not allow the code to run.
    comment: str = ""


@dataclass(frozen=True)
class Done:
    """Results of a finished step for the steps that follow."""

    node_id: str
    title: str
    agent: str
    summary: str
    files: Sequence[str] = field(default_factory=tuple)
    output: str = ""
    #: The SHA-256 of each file.
    hashes: Mapping[str, str] = field(default_factory=dict)


def planner(
    task: str,
    agents: Mapping[str, str],
    inputs: Sequence[Mapping[str, Any]],
    max_steps: int,
    *,
    previous: Plan | None = None,
    comments: Sequence[str] = (),
    comments_by: str = "",
) -> str:
    """Ask for a plan, or for a better one after a review or a person's comment."""
    parts = [
        f"# Task\n{task}",
        inputs_text(inputs),
        "# Agents for the steps\n" + "\n".join(f"- {name}: {text}" for name, text in agents.items()),
        f"Plan at most {max_steps} steps. Steps that do not need each other's results must not depend on each other:"
        " they run at the same time.",
    ]
    if previous is not None:
        parts.append(f"# The plan so far\n{to_json(previous.to_dict())}")
        parts.append(f"# Changes asked for by {comments_by}\n" + _bullets(comments))
        parts.append("Give the whole plan again, with these changes made.")
    return _join(parts)


def reviewer(task: str, plan: Plan, inputs: Sequence[Mapping[str, Any]]) -> str:
    """Ask for a review of a plan."""
    return _join([f"# Task\n{task}", inputs_text(inputs), f"# Plan to review\n{to_json(plan.to_dict())}"])


def step(
    task: str,
    current: Step,
    inputs: Sequence[Mapping[str, Any]],
    done: Sequence[Done],
    folder: Path,
    failures: Sequence[Failure],
    max_attempts: int,
    comments: Sequence[str] = (),
    carried: str = "",
    guide: str = "",
    replaced: Mapping[tuple[str, str], str] | None = None,
) -> str:
    """Ask an agent to do one step, with what was done before it and what went wrong.

    ``done`` is what its predecessors left; ``carried`` takes its place where a run carries its context along;
    ``guide`` is what stands behind the run: the code of a skill. ``replaced`` names, by a step and a path, the other
    step whose version of the file is there.
    """
    known = replaced or {}

    def find(node_id: str, name: str) -> Path | str:
        other = known.get((node_id, name))
        return f"(not this one: the file of this name is that of {other})" if other else folder / name

    parts = []
    if current.instructions != task:
        parts.append(f"# The whole task, for orientation\n{task}")
    parts.append(f"# Your step: {current.title}\n{current.instructions}")
    parts.append(_bullets(current.bullet_points))
    if current.expected_outputs:
        parts.append("# Files that must exist afterwards\n" + _bullets(current.expected_outputs))
    parts.append(inputs_text(inputs))
    if carried:
        parts.append(f"# What earlier steps left\n{carried}")
    elif done:
        parts.append("# What earlier steps left\n" + "\n\n".join(left_by(item, find) for item in done))
    if guide:
        parts.append(guide)
    if comments:
        parts.append("# Comments of the person you work for\n" + _bullets(comments))
    if failures:
        parts.append(_failures(failures, max_attempts))
    return _join(parts)


def verdict(current: Step, missing: Sequence[str], made: Iterable[str], printed: str) -> str:
    """Ask whether a step whose code ran, but left an expected file out, has reached its goal."""
    return _join(
        [
            f"# Step: {current.title}\n{current.instructions}",
            "The code ended with exit status 0.",
            "# Expected files that are missing\n" + _bullets(missing),
            "# Files that it made\n" + (_bullets(made) or "none"),
            f"# Its output\n{printed}",
            "Has the step reached its goal all the same? If not, say what to change.",
        ]
    )


def inputs_text(inputs: Sequence[Mapping[str, Any]]) -> str:
    """Describe the input files of a run."""
    if not inputs:
        return ""
    lines = [f"- {item['path']}: {item.get('description', '')}".rstrip(": ") for item in inputs]
    return "# Input files\n" + "\n".join(lines)


def output(stdout: str, stderr: str = "", traceback: str = "", limit: int = OUTPUT_CHARS) -> str:
    """Tell what code printed: its beginning and its end, both streams apart, the last exception whole."""
    return report(stdout, stderr, traceback, limit)


def left_by(item: Done, find: Callable[[str, str], Path | str]) -> str:
    """Tell what a finished step left: its summary, its files, the end of its output.

    ``find`` returns, for the step and a path, where its version of the file is, or words about it.
    """
    lines = [f"## {item.title} ({item.node_id}, {item.agent})", item.summary]
    for name in item.files:
        found = find(item.node_id, name)
        lines.append(f"- {name} {found}" if isinstance(found, str) else f"- {name}{_content(found)}")
    if item.output:
        lines.append(f"Output:\n{output(item.output, limit=FILE_CHARS)}")
    return "\n".join(line for line in lines if line)


def _content(path: Path) -> str:
    """Quote small JSON files whole: they hold the numbers that later steps need."""
    if path.suffix != ".json" or not path.is_file() or path.stat().st_size > FILE_CHARS:
        return ""
    return f": {path.read_text(encoding='utf-8', errors='replace')}"


def _failures(failures: Sequence[Failure], max_attempts: int) -> str:
    last = failures[-1]
    parts = [f"# Attempt {last.attempt} of {max_attempts} failed\n{last.error}"]
    if last.suggestion:
        parts.append(f"Suggestion: {last.suggestion}")
    if last.code:
        parts.append(f"The code was:\n```python\n{last.code}\n```")
    if last.output:
        parts.append(f"Its output:\n```\n{last.output}\n```")
    earlier = [f"attempt {item.attempt}: {item.error.strip().splitlines()[-1]}" for item in failures[:-1]]
    if earlier:
        parts.append("Earlier attempts failed too:\n" + _bullets(earlier))
    parts.append("Find the cause and give the whole corrected reply.")
    return "\n\n".join(parts)


def _bullets(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _join(parts: Iterable[str]) -> str:
    return "\n\n".join(part for part in parts if part)
