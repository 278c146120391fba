"""Tells whether code that ended has reached its step's goal: by its exit status, its files, or a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cmbagent_nb.execution.attempt_folder import matches, obstacle
from cmbagent_nb.execution.environment import withheld, withheld_text
from cmbagent_nb.runtime import in_thread
from cmbagent_nb.workflow import prompts
from cmbagent_nb.workflow.prompts import Failure
from cmbagent_nb.workflow.retries import category

if TYPE_CHECKING:
    from cmbagent_nb.execution.launcher import Outcome
    from cmbagent_nb.workflow.context import Context
    from cmbagent_nb.workflow.plan import Step

EXECUTOR = "executor"
#: Files that a record of what was not published names.
_TOLD = 10


def failure_of(number: int, outcome: Outcome, code: str, pass_env: str) -> Failure | None:
    """Return why code did not end well, with the variables that it was not given; None if it ended well."""
    if outcome.status == "completed":
        return None
    error = error_text(outcome)
    names = withheld(code, f"{error}\n{outcome.traceback}", pass_env=pass_env)
    return Failure(number, " ".join(filter(None, [error, withheld_text(names)])), code, output_of(outcome))


async def check_outputs(
    context: Context, step: Step, number: int, folder: Path, outcome: Outcome, code: str
) -> Failure | None:
    """Return why code that ended well has not made what its step was to make; None if it has.

    What is there and cannot be published is told without a model; for what is missing a verdict is asked.
    """
    made = [entry.path for entry in outcome.made]
    there = (*made, *outcome.rewritten)
    missing = [pattern for pattern in step.expected_outputs if not any(matches(name, pattern) for name in there)]
    if not missing:
        return None
    output = output_of(outcome)
    obstacles = [await in_thread(obstacle, folder, pattern, outcome.skipped) for pattern in missing]
    if all(obstacles):
        return Failure(
            number,
            f"The code ran, but later steps would not find what it made: {'; '.join(obstacles)}.",
            code,
            output,
            "Write the files themselves, or copies of them, into the working directory.",
        )
    from cmbagent_nb.agents.ask import ask
    from cmbagent_nb.agents.replies import Verdict

    answer = await ask(
        context.registry[EXECUTOR],
        prompts.verdict(
            step,
            [f"{name} ({why})" if why else name for name, why in zip(missing, obstacles, strict=True)],
            made,
            output,
        ),
        reply=Verdict,
        gateway=context.gateway,
        recorder=context.recorder,
        tools=context.tools(folder),
    )
    if answer.value.achieved:
        return None
    return Failure(
        number,
        f"The code ran, but did not make {', '.join(missing)}: {answer.value.reason}",
        code,
        output,
        answer.value.fix_suggestion or "",
    )


def output_of(outcome: Outcome) -> str:
    """Return what code printed and how it failed, as a model is told."""
    return prompts.output(outcome.stdout, outcome.stderr, outcome.traceback)


def error_text(outcome: Outcome) -> str:
    """Say in a line, or with its traceback's last part, how the code failed."""
    if outcome.error:
        place = f" ({outcome.error['file']}, line {outcome.error['line']})" if outcome.error.get("line") else ""
        return f"{outcome.error['type']}: {outcome.error['message']}{place}"
    return f"The code ended with exit status {outcome.exit_code}."


def error_category(outcome: Outcome) -> str:
    """Return the category of an outcome's error, which decides on a retry."""
    error = outcome.error or {}
    return category(str(error.get("type", "")), str(error.get("message", "")), outcome.status)


def note_changed(context: Context, paths: Sequence[str], event_id: str) -> None:
    """Record that code wrote into files which it shares with the step that made them: their old state is gone."""
    if paths:
        names = ", ".join(paths)
        context.recorder.record(
            "error",
            subtype="shared_file_changed",
            inputs={"paths": list(paths)},
            parent=event_id,
            status="failed",
            error=f"{names}: changed in place. Large files are shared with the step that made them and not copied;"
            " what that step had made is not kept. Write to another file to keep both.",
        )


def note_skipped(context: Context, skipped: Mapping[str, str], event_id: str) -> None:
    """Record what code left in its folder that later steps will not find."""
    if skipped:
        told = [f"{path} {why}" for path, why in sorted(skipped.items())]
        more = f"; and {len(told) - _TOLD} more" if len(told) > _TOLD else ""
        context.recorder.record(
            "error",
            subtype="file_not_published",
            inputs={"paths": sorted(skipped)[:1000]},
            parent=event_id,
            status="failed",
            error=f"Not published: {'; '.join(told[:_TOLD])}{more}. Write files, or copies of files, into the"
            " working directory.",
        )
