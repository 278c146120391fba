"""Budgets: a run stops before the call that would go over its limit, not after it.

The cost of a call is estimated before it is made: its prompt by its length, its reply by the mean
of the run's replies so far, both at the model's price. Calls under way at the same time count with
their estimates. A model whose price is not known is refused at its first call, since no limit can
be kept for it; a playbook and a model on one's own machine cost nothing and always pass.
"""

from __future__ import annotations

from cmbagent_nb.errors import BudgetExceeded
from cmbagent_nb.llm.model_call import BeforeCall, CallInfo


def budget(max_cost_usd: float) -> BeforeCall:
    """Make a hook for the gateway's ``before_call`` that keeps a run within ``max_cost_usd`` US dollars."""

    async def stop_before(call: CallInfo) -> None:
        if call.estimated_usd is None:
            raise BudgetExceeded(
                f"the price of {call.provider}:{call.model} is not known, so that the limit of ${max_cost_usd:g}"
                " cannot be kept",
                "Take a model with a known price, or run without --max-cost.",
                limit_usd=max_cost_usd,
                spent_usd=call.spent_usd,
                estimated_usd=None,
                node_id=call.node_id,
                agent=call.agent,
            )
        if call.spent_usd + call.estimated_usd > max_cost_usd:
            raise BudgetExceeded(
                f"the next call of {call.agent} would cost about ${call.estimated_usd:.4f} and go over the limit of"
                f" ${max_cost_usd:g} (spent so far: ${call.spent_usd:.4f})",
                "Raise the limit with --max-cost, or take a cheaper model.",
                limit_usd=max_cost_usd,
                spent_usd=call.spent_usd,
                estimated_usd=call.estimated_usd,
                node_id=call.node_id,
                agent=call.agent,
            )

    return stop_before
