"""Guided: the skill's graph is the plan, and one question lets an agent fit its code to the task.

A planned run asks a planner, a reviewer and then an agent for each step. Here one agent sees the code of all steps
with the parameters filled in, and says which of them have to change for the task; the others run as they are. A skill
of one step, or a reply that cannot be had, is asked step by step, with the skill's code as the template.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from cmbagent_nb.agents.replies import Reply, Script, Text
from cmbagent_nb.workflow.prompts import inputs_text

if TYPE_CHECKING:
    from cmbagent_nb.skills.library import SkillRecord
    from cmbagent_nb.workflow.context import Context
    from cmbagent_nb.workflow.plan import Plan


class FittedStep(BaseModel):
    """Code of one step, changed or as it is."""

    model_config = ConfigDict(extra="ignore")

    step: str = Field(description="The step's id, such as step_1.")
    change: bool = Field(description="Whether its code has to change for the task.")
    reason: Text = Field("", description="Why, in a sentence.")
    python_code: Script = Field("", description="The whole new script of the step if it changes, else empty.")


class Fitted(Reply):
    """The steps of a skill, fitted to a task."""

    steps: list[FittedStep]


async def fit(
    context: Context, plan: Plan, skill: SkillRecord, scripts: Mapping[str, str], values: Mapping[str, Any]
) -> dict[str, FittedStep]:
    """Ask once which steps have to change, and how; returns those that do.

    Raises
    ------
    CMBAgentError
        The model cannot be asked, or its reply cannot be used.
    """
    from cmbagent_nb.agents.ask import ask

    first = plan.steps[0]
    registry = context.registry

    def check(reply: Any) -> str | None:
        for item in reply.steps:
            if item.step not in scripts:
                return f"There is no {item.step!r}; the steps are {', '.join(scripts)}."
            if item.change and not item.python_code.strip():
                return f"{item.step} is to change, but its new code is missing."
            if item.change:
                try:
                    ast.parse(item.python_code)
                except SyntaxError as error:
                    return f"The code of {item.step} is no Python ({error})."
        return None

    with context.recorder.located_at(first.node_id, agent=first.agent):
        context.stream.emit("agent_start", agent=first.agent, node_id=first.node_id)
        answer = await ask(
            registry[first.agent],
            prompt(context.task, plan, skill, scripts, values, context.inputs),
            reply=Fitted,
            gateway=context.gateway,
            recorder=context.recorder,
            tools=context.tools(context.work_dir),
            check=check,
        )
    return {item.step: item for item in answer.value.steps if item.change}


def prompt(
    task: str,
    plan: Plan,
    skill: SkillRecord,
    scripts: Mapping[str, str],
    values: Mapping[str, Any],
    inputs: Sequence[Mapping[str, Any]],
) -> str:
    """Show the task and the skill's steps with their code, and ask which have to change."""
    parts = [
        f"# Task\n{task}",
        inputs_text(inputs),
        f"# A verified skill that did a task like this one: {skill.name}\n{skill.description or skill.task}",
        parameters_text(skill, values),
    ]
    for step in plan.steps:
        after = f"\nIt comes after {', '.join(step.depends_on)}." if step.depends_on else ""
        code = f"```python\n{scripts[step.node_id]}```" if step.node_id in scripts else ""
        parts.append(f"# {step.node_id}: {step.title}\n{step.instructions}{after}\n\n{code}")
    parts.append(
        "The steps run in this order, each as a script of its own, with this code unless you change it. Say for each"
        " step whether its code has to change for the task; give the whole new script of those that do, and keep the"
        " names of the files that later steps read."
    )
    return "\n\n".join(part for part in parts if part)


def parameters_text(skill: SkillRecord, values: Mapping[str, Any]) -> str:
    """Describe the skill's parameters and the values that they have now."""
    lines = []
    for item in skill.parameters:
        value = values.get(item.name, item.default)
        was = f" (was {item.default!r})" if value != item.default else ""
        lines.append(f"- {item.name} = {value!r}{was}" + (f": {item.help}" if item.help else ""))
    return "# Parameters of the skill\n" + "\n".join(lines) if lines else ""
