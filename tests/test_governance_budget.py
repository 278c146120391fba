"""A budget stops a run before the call that would go over it."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from ag2 import Agent

from cmbagent_nb.errors import BudgetExceeded
from cmbagent_nb.governance.budget import budget
from tests.openai_server import OpenAIServer, Reply
from tests.recorded_run import RecordedRun, in_loop, recorded_run

#: A reply of gpt-5 that costs one cent.
CENT = Reply("x", prompt_tokens=0, completion_tokens=1000)


def ask(run: RecordedRun, gateway: Any) -> None:
    async def work() -> None:
        with run.recorder.located_at("step_1"):
            await Agent("engineer", config=gateway.config()).ask("x")

    in_loop(work())


def test_the_call_that_would_go_over_is_not_made(tmp_path: Path) -> None:
    """Two cents are spent of two and a half; the third call would be too much, and the server never sees it."""
    with OpenAIServer(lambda request: CENT) as server, recorded_run(tmp_path) as run:
        gateway = run.gateway(server.url, "openai:gpt-5", before_call=[budget(0.025)])
        ask(run, gateway)
        ask(run, gateway)
        with pytest.raises(BudgetExceeded, match=r"over the limit of \$0\.025 \(spent so far: \$0\.0200\)") as raised:
            ask(run, gateway)
        assert server.count == 2
        assert gateway.cost_usd == pytest.approx(0.02)
        assert (raised.value.node_id, raised.value.agent) == ("step_1", "engineer")
        assert "--max-cost" in str(raised.value)


def test_calls_at_once_count_with_their_estimates(tmp_path: Path) -> None:
    """Parallel steps cannot each take the last cent: the second is stopped while the first is under way."""
    release = threading.Event()

    def handler(request: Any) -> Reply:
        release.wait(20)
        return CENT

    with OpenAIServer(handler) as server, recorded_run(tmp_path) as run:
        gateway = run.gateway(server.url, "openai:gpt-5", before_call=[budget(0.015)])

        async def work() -> None:
            with run.recorder.located_at("step_1"):
                first = asyncio.ensure_future(Agent("engineer", config=gateway.config()).ask("x"))
                await asyncio.to_thread(server.wait_for, 1)
                with pytest.raises(BudgetExceeded):
                    await Agent("engineer", config=gateway.config()).ask("x")
                release.set()
                await first

        in_loop(work())
        assert server.count == 1


def test_a_model_without_a_price_cannot_be_kept_within_a_limit(tmp_path: Path) -> None:
    """It is refused at its first call, with the way out."""
    with OpenAIServer(lambda request: "x") as server, recorded_run(tmp_path) as run:
        gateway = run.gateway(server.url, "openai:my-own", before_call=[budget(10.0)])
        with pytest.raises(BudgetExceeded, match=r"price of openai:my-own is not known.*without --max-cost"):
            ask(run, gateway)
        assert server.count == 0
