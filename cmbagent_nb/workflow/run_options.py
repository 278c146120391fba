"""Reads and checks the options of a run before anything is made."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import UsageError
from cmbagent_nb.settings import HELP, Settings, check_number

if TYPE_CHECKING:
    from cmbagent_nb.agents.registry import Registry
    from cmbagent_nb.workflow.context import Options
    from cmbagent_nb.workflow.plan import Plan

#: The modes of a run, with the short words for them.
MODES: Mapping[str, str] = {
    "one_shot": "one_shot",
    "one-shot": "one_shot",
    "plan": "planning_and_control",
    "planning_and_control": "planning_and_control",
    "planning-and-control": "planning_and_control",
    "deep": "deep_research",
    "deep_research": "deep_research",
    "deep-research": "deep_research",
}
#: Options that CMBAgent has and that mean nothing here: no round of chat is counted, no formatter is called.
_LONGEST_SHOWN = 80
IGNORED = frozenset({"max_rounds", "max_rounds_planning", "max_rounds_control", "default_formatter_model"})


def read_task(task: str) -> str:
    """Return the task without the space around it; a task that says nothing is refused."""
    if not isinstance(task, str):
        raise UsageError(f"the task is a {type(task).__name__}, not a text", "Say in words what is to be done.")
    task = task.strip()
    if not task:
        raise UsageError("there is no task", "Say what is to be done.")
    return task


def read_mode(mode: str) -> str:
    """Return the full name of a mode.

    >>> read_mode("plan")
    'planning_and_control'
    """
    if not isinstance(mode, str):
        raise UsageError(f"the mode is a {type(mode).__name__}, not a text", "Modes are one_shot, plan and deep.")
    if mode not in MODES:
        raise UsageError(unknown("mode", mode, MODES), "Modes are one_shot, plan and deep.", mode=mode)
    return MODES[mode]


def read_agent(agent: str, registry: Registry) -> str:
    """Return the name of an agent that there is."""
    if agent not in registry.names():
        raise UsageError(unknown("agent", agent, registry.names()), "List them with %cmbagent agents.", agent=agent)
    return agent


def read_gates(answers: str | None, settings: Settings) -> str:
    """Return how gates are answered without a person; empty when a person answers."""
    from cmbagent_nb.workflow.gates import policy

    chosen = settings.gates if answers is None else answers
    policy(chosen)
    return chosen


def per_agent(
    options: Mapping[str, Any], agents: Iterable[str], known: Iterable[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Sort ``engineer_model=…`` and ``engineer_instructions=…`` by agent; refuse what is no option.

    >>> per_agent({"engineer_model": "auto", "max_rounds": 9}, ["engineer"], [])
    ({'engineer': 'auto'}, {})
    """
    names = frozenset(agents)
    models: dict[str, str] = {}
    instructions: dict[str, str] = {}
    for option, value in options.items():
        if option in IGNORED:
            continue
        for suffix, target in (("_model", models), ("_instructions", instructions)):
            if option.endswith(suffix) and option.removesuffix(suffix) in names:
                target[option.removesuffix(suffix)] = str(value)
                break
        else:
            raise UsageError(unknown("option", option, known), "See help(Workspace.start).")
    return models, instructions


def check_models(models: Mapping[str, str], settings: Settings) -> None:
    """Refuse agents' models that cannot be used: no such provider, no key, a package that is missing."""
    from cmbagent_nb.llm.providers import check
    from cmbagent_nb.llm.spec import ModelSpec

    for text in models.values():
        check(ModelSpec.parse(text), settings)


def parse_options(
    settings: Settings,
    registry: Registry,
    task: str,
    *,
    mode: str,
    agent: str,
    approve: str | None,
    plan: Mapping[str, Any] | None,
    max_attempts: int | None,
    max_plan_steps: int | None,
    n_plan_reviews: int | None,
    plan_instructions: str,
    step_timeout: float | None,
) -> Options:
    """Return how the run is to be done: what was asked for, and what the settings say of the rest."""
    from cmbagent_nb.workflow.context import Options
    from cmbagent_nb.workflow.gates import modes

    reviews = settings.n_plan_reviews if n_plan_reviews is None else n_plan_reviews
    steps = settings.max_plan_steps if max_plan_steps is None else max_plan_steps
    return Options(
        mode=mode,
        agent=agent,
        approve=modes(settings.approve if approve is None else approve),
        max_attempts=_at_least_one("max_attempts", settings.max_attempts if max_attempts is None else max_attempts),
        parallel_steps=_at_least_one("parallel_steps", settings.parallel_steps),
        max_plan_steps=_at_least_one("max_plan_steps", steps),
        n_plan_reviews=int(number(n_plan_reviews=reviews)),
        step_timeout=settings.step_timeout if step_timeout is None else number(step_timeout=step_timeout),
        step_memory_mb=settings.step_memory_mb,
        pass_env=settings.pass_env,
        plan=_given_plan(plan, registry, task, mode=mode, agent=agent, steps=steps),
        plan_instructions=plan_instructions,
        context_tokens=_at_least_one("context_tokens", settings.context_tokens),
        context_keep=settings.context_keep,
    )


def _given_plan(
    plan: Mapping[str, Any] | None, registry: Registry, task: str, *, mode: str, agent: str, steps: int
) -> Plan | None:
    """Return the plan that needs no planner: one that was given, or the only step of a one_shot."""
    from cmbagent_nb.workflow.folders import title
    from cmbagent_nb.workflow.plan import Plan, checked, one_step

    if plan is not None:
        return checked(Plan.from_reply(plan), agents=registry.plannable(), max_steps=steps)
    return one_step(task, agent, title(task)) if mode == "one_shot" else None


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Say that there is no such thing, and which was perhaps meant.

    >>> unknown("mode", "plam", MODES)
    "there is no mode 'plam'; did you mean 'plan'?"
    """
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f"there is no {kind} {name!r}" + (f"; did you mean {close[0]!r}?" if close else "")


def number(**given: Any) -> float:
    """Return the number that an option was given as, by the option's name.

    Raises
    ------
    UsageError
        It is none of 0 or more: negative, not finite, or no number.
    """
    ((name, value),) = given.items()
    kind = type(getattr(Settings, name))
    try:
        return check_number(value, kind)
    except (TypeError, ValueError, OverflowError):
        what = "a whole number of 0 or more" if kind is int else "a number of 0 or more"
        raise UsageError(f"the option {name} is {shown(value)}, which is not {what}", f"Give {HELP[name]}.") from None


def shown(value: Any) -> str:
    """Return a value as an error quotes it: in a line, whatever its own representation is."""
    try:
        text = " ".join(repr(value).split())
    except Exception as error:  # whatever the value's own code raises
        text = f"a {type(value).__name__} (whose representation raises {type(error).__name__})"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def _at_least_one(name: str, value: Any) -> int:
    found = int(number(**{name: value}))
    if found < 1:
        raise UsageError(f"the option {name} cannot be {value}", "Give a number of 1 or more.", value=value)
    return found
