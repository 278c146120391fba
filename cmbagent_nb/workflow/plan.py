"""A plan: what the planner proposes, checked, and turned into the graph that a run follows.

>>> plan = Plan.from_reply({"goal": "g", "steps": [
...     {"title": "a", "agent": "engineer", "instructions": "i"},
...     {"title": "b", "agent": "engineer", "instructions": "i", "depends_on": ["step_1"]}]})
>>> plan.steps[1].depends_on
('step_1',)
>>> problem(plan, agents=["engineer"]) is None
True
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from graphlib import CycleError, TopologicalSorter
from heapq import heapify, heappop, heappush
from typing import Any

from cmbagent_nb.errors import PlanRefused, PlanTooLong

PLANNING = "planning"
SKILL_MATCH = "skill_match"
PLAN_APPROVAL = "plan_approval"
TERMINATOR = "terminator"


@dataclass(frozen=True)
class Step:
    """One step of a plan. Steps are numbered from 1, and ``node_id`` is ``step_<number>``."""

    number: int
    title: str
    agent: str
    instructions: str
    bullet_points: tuple[str, ...] = ()
    depends_on: tuple[str, ...] = ()
    needs_approval: bool = False
    expected_outputs: tuple[str, ...] = ()

    @property
    def node_id(self) -> str:
        """The step's name in the graph, the database and the file names."""
        return f"step_{self.number}"


@dataclass(frozen=True)
class Plan:
    """A goal and the steps that lead to it."""

    goal: str
    steps: tuple[Step, ...] = field(default_factory=tuple)

    @classmethod
    def from_reply(cls, reply: Mapping[str, Any]) -> Plan:
        """Make a plan from a planner's reply, from stored JSON, or from a plan that a user gives.

        ``depends_on`` may name steps by number (``1``, ``"1"``) or by id (``"step_1"``).

        Raises
        ------
        PlanRefused
            The reply has no steps, or a step has no title or instructions.
        """
        entries = reply.get("steps")
        if not isinstance(entries, Sequence) or isinstance(entries, str) or not entries:
            raise PlanRefused("the plan has no steps", "Give it a list of steps.")
        steps = []
        for number, entry in enumerate(entries, start=1):
            if not isinstance(entry, Mapping) or not (entry.get("instructions") or entry.get("title")):
                raise PlanRefused(f"step {number} of the plan has no instructions", "Say what it has to do.")
            steps.append(
                Step(
                    number=number,
                    title=str(entry.get("title") or shortened(str(entry["instructions"]))),
                    agent=str(entry.get("agent") or "engineer"),
                    instructions=str(entry.get("instructions") or entry["title"]),
                    bullet_points=tuple(str(point) for point in entry.get("bullet_points") or ()),
                    depends_on=tuple(dict.fromkeys(_node_id(item) for item in entry.get("depends_on") or ())),
                    needs_approval=bool(entry.get("needs_approval")),
                    expected_outputs=tuple(_printable(pattern) for pattern in entry.get("expected_outputs") or ()),
                )
            )
        return cls(goal=str(reply.get("goal") or ""), steps=tuple(steps))

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as plain data, in the form that :meth:`from_reply` reads."""
        return {
            "goal": self.goal,
            "steps": [
                {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(step).items()}
                for step in self.steps
            ],
        }

    def to_cmbagent(self) -> dict[str, Any]:
        """Return the plan as CMBAgent writes ``final_plan.json``, with our own fields beside its own."""
        return {
            "sub_tasks": [
                {
                    "sub_task": step.instructions,
                    "sub_task_agent": step.agent,
                    "bullet_points": list(step.bullet_points),
                    "title": step.title,
                    "depends_on": list(step.depends_on),
                    "expected_outputs": list(step.expected_outputs),
                }
                for step in self.steps
            ],
            "goal": self.goal,
        }

    def before(self, node_id: str) -> list[str]:
        """Return the steps that ``node_id`` needs, directly or through others, in the order of the plan."""
        direct = {step.node_id: step.depends_on for step in self.steps}
        found: set[str] = set()
        waiting = list(direct[node_id])
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting.extend(direct[name])
        return [step.node_id for step in self.steps if step.node_id in found]

    def order(self) -> list[str]:
        """Return all steps so that each comes after those that it needs; otherwise in the order of their numbers."""
        numbers = {step.node_id: step.number for step in self.steps}
        sorter = TopologicalSorter({step.node_id: step.depends_on for step in self.steps})
        sorter.prepare()
        ready, found = [(numbers[name], name) for name in sorter.get_ready()], []
        heapify(ready)
        while ready:
            _, name = heappop(ready)
            found.append(name)
            sorter.done(name)
            for other in sorter.get_ready():
                heappush(ready, (numbers[other], other))
        return found

    def roots(self) -> list[str]:
        """Return the steps that need no other."""
        return [step.node_id for step in self.steps if not step.depends_on]

    def leaves(self) -> list[str]:
        """Return the steps that no other needs."""
        needed = {name for step in self.steps for name in step.depends_on}
        return [step.node_id for step in self.steps if step.node_id not in needed]

    def edges(self, start: str | None) -> list[tuple[str, str]]:
        """Return the edges of the graph, from ``start`` (if any) through the steps to the terminator."""
        first = [(start, name) for name in self.roots()] if start else []
        inner = [(name, step.node_id) for step in self.steps for name in step.depends_on]
        return [*first, *inner, *((name, TERMINATOR) for name in self.leaves())]


def one_step(task: str, agent: str, title: str) -> Plan:
    """Return the plan of a one_shot run: the task itself, given to one agent."""
    return Plan(goal=task, steps=(Step(number=1, title=title, agent=agent, instructions=task),))


def problem(plan: Plan, *, agents: Iterable[str]) -> str | None:
    """Say why a plan cannot be used, in words that the planner can act on; ``None`` when it can.

    Refused are unknown agents, unknown dependencies, steps that need themselves, and cycles.
    """
    known = list(agents)
    names = {step.node_id for step in plan.steps}
    for step in plan.steps:
        if step.agent not in known:
            return f"Step {step.number} names the agent {step.agent!r}; the agents are {', '.join(known)}."
        for name in step.depends_on:
            if name not in names:
                return f"Step {step.number} depends on {name!r}, which is no step of the plan."
    try:
        TopologicalSorter({step.node_id: step.depends_on for step in plan.steps}).prepare()
    except CycleError as error:
        return f"The steps depend on each other in a circle: {' → '.join(error.args[1])}."
    return None


def checked(plan: Plan, *, agents: Iterable[str], max_steps: int | None) -> Plan:
    """Return ``plan`` if it can be used, else raise.

    Raises
    ------
    PlanTooLong
        It has more than ``max_steps`` steps.
    PlanRefused
        It cannot be carried out.
    """
    number = len(plan.steps)
    if max_steps is not None and number > max_steps:
        raise PlanTooLong(
            f"the plan has {number} steps; the limit is {max_steps}",
            f"Allow more with CMBAGENT_MAX_PLAN_STEPS={number}, or ask for fewer steps.",
            steps=number,
            limit=max_steps,
        )
    reason = problem(plan, agents=agents)
    if reason:
        raise PlanRefused(f"the plan cannot be used: {reason}", "Change the plan and try again.", reason=reason)
    return plan


def shortened(text: str, length: int = 120) -> str:
    """Return the first line of a text, with a sign where something is left out.

    >>> shortened("Fit the curve.\\nThen plot it.")
    'Fit the curve. …'
    """
    first = text.strip().splitlines()[0] if text.strip() else ""
    if len(first) > length:
        return first[: length - 1].rstrip() + "…"
    return first if first == text.strip() else f"{first} …"


def _printable(pattern: Any) -> str:
    return "".join(letter for letter in str(pattern) if letter.isprintable())


def _node_id(item: Any) -> str:
    text = str(item).strip().lower().replace(" ", "_")
    return text if text.startswith("step_") else f"step_{text}"
