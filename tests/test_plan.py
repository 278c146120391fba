"""Plans: read from replies, checked, and turned into a graph."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmbagent_nb.errors import PlanRefused, PlanTooLong
from cmbagent_nb.workflow.plan import PLANNING, TERMINATOR, Plan, checked, problem
from tests.team import plan as reply

AGENTS = ["engineer", "researcher"]


def made(*depends_on: list[object]) -> Plan:
    return Plan.from_reply(reply(*({"title": f"t{i}", "depends_on": d} for i, d in enumerate(depends_on, 1))))


def test_edges_join_start_steps_and_end() -> None:
    plan = made([], [], [1, "step_2"], ["3"])
    assert plan.edges(PLANNING) == [
        (PLANNING, "step_1"),
        (PLANNING, "step_2"),
        ("step_1", "step_3"),
        ("step_2", "step_3"),
        ("step_3", "step_4"),
        ("step_4", TERMINATOR),
    ]
    assert plan.before("step_4") == ["step_1", "step_2", "step_3"]


@pytest.mark.parametrize(
    ("plan", "word"),
    [
        (made([1]), "circle"),
        (made([2], [1]), "circle"),
        (made([9]), "no step"),
        (Plan.from_reply(reply({"title": "x", "agent": "astrologer"})), "astrologer"),
    ],
)
def test_a_plan_that_cannot_be_used_is_refused_with_the_reason(plan: Plan, word: str) -> None:
    assert word in str(problem(plan, agents=AGENTS))
    with pytest.raises(PlanRefused, match=word):
        checked(plan, agents=AGENTS, max_steps=None)


def test_a_plan_with_more_steps_than_the_limit_is_refused_with_both_numbers() -> None:
    plan = made(*[[]] * 11)
    with pytest.raises(PlanTooLong, match="11 steps; the limit is 10") as refused:
        checked(plan, agents=AGENTS, max_steps=10)
    assert (refused.value.steps, refused.value.limit) == (11, 10)
    for limit in (11, None):
        assert checked(plan, agents=AGENTS, max_steps=limit) is plan


@pytest.mark.parametrize("bad", [{}, {"steps": []}, {"steps": "none"}, {"steps": [{}]}, {"steps": ["a"]}])
def test_a_reply_that_is_no_plan_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(PlanRefused):
        Plan.from_reply(bad)


@given(st.lists(st.lists(st.integers(1, 6), max_size=3), min_size=1, max_size=6))
def test_plans_survive_being_stored(dependencies: list[list[object]]) -> None:
    plan = made(*dependencies)
    assert Plan.from_reply(plan.to_dict()) == plan


@given(st.lists(st.lists(st.integers(1, 6), max_size=3), min_size=1, max_size=6))
def test_an_accepted_plan_can_be_carried_out(dependencies: list[list[object]]) -> None:
    """Whatever is accepted, taking the steps that are ready again and again comes to its end."""
    plan = made(*dependencies)
    if problem(plan, agents=AGENTS):
        return
    done: set[str] = set()
    while ready := [s for s in plan.steps if s.node_id not in done and set(s.depends_on) <= done]:
        done.update(step.node_id for step in ready)
    assert done == {step.node_id for step in plan.steps}
