"""Describes a model call to hooks that run before it: budgets, policies, playbooks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CallInfo:
    """A model call that is about to be made.

    ``ordinal`` counts the calls of this agent in this attempt at this node, from 1. The cost of the
    call is an estimate from the size of its prompt, None when the model has no known price;
    ``spent_usd`` holds what the run has cost so far and the estimates of calls under way.
    """

    agent: str
    node_id: str
    attempt: int
    ordinal: int
    provider: str
    model: str
    request_hash: str
    prompt_tokens: int
    estimated_usd: float | None
    spent_usd: float
    tools: tuple[str, ...] = ()
    schema: str | None = None


#: Called before each call is made; raising stops the call.
BeforeCall = Callable[[CallInfo], Awaitable[None]]

_call: ContextVar[CallInfo | None] = ContextVar("cmbagent_call", default=None)


def current_call() -> CallInfo | None:
    """Return the model call that is under way, or None."""
    return _call.get()


@contextmanager
def under_way(info: CallInfo) -> Iterator[CallInfo]:
    """Make ``info`` the current call within a block."""
    token = _call.set(info)
    try:
        yield info
    finally:
        _call.reset(token)
