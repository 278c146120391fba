"""A kernel whose run goes on as it is told: the engine is the real one, only its plan and its attempts wait for a word.

Each line of the pipe ``control`` in the home says how an attempt ends: ``step_1 done`` or ``step_2 fail``.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import defaultdict, deque
from pathlib import Path
from typing import Any

from cmbagent_nb.runtime import Runtime
from cmbagent_nb.workflow import engine, step
from cmbagent_nb.workflow.attempt import Attempt
from cmbagent_nb.workflow.plan import PLANNING, Plan
from cmbagent_nb.workflow.prompts import Done, Failure
from cmbagent_nb.workspace import Workspace

NAME = "paced"
PLAN = {
    "goal": "go on",
    "steps": [
        {
            "title": title,
            "agent": "engineer",
            "instructions": title,
            "depends_on": needs,
            "needs_approval": title == "B",
        }
        for title, needs in (("A", []), ("B", []), ("C", [1, 2]))
    ],
}


class Words:
    """What was said about each step, and who waits for it; on the event loop."""

    def __init__(self) -> None:
        self._said: dict[str, deque[str]] = defaultdict(deque)
        self._waiting: dict[str, asyncio.Future[str]] = {}

    async def about(self, node_id: str) -> str:
        if self._said[node_id]:
            return self._said[node_id].popleft()
        future = self._waiting[node_id] = asyncio.get_running_loop().create_future()
        return await future

    def say(self, node_id: str, word: str) -> None:
        future = self._waiting.pop(node_id, None)
        if future is not None and not future.done():
            future.set_result(word)
        else:
            self._said[node_id].append(word)

    def listen(self, pipe: Path) -> None:
        with pipe.open() as lines:
            for line in lines:
                node_id, word = line.split()
                Runtime.get().call_soon(lambda node_id=node_id, word=word: self.say(node_id, word))  # type: ignore[misc]


WORDS = Words()


class PacedAttempt(Attempt):
    """An attempt whose model and code are one word."""

    async def _code(self, spec: Any) -> Done | Failure:
        scheduler, node_id = self.context.scheduler, self.step.node_id
        await scheduler.wait_while_paused(node_id)
        word = await scheduler.run_code(node_id, lambda: WORDS.about(node_id))
        if word == "done":
            self._end("completed")
            return Done(node_id=node_id, title=self.step.title, agent=spec.name, summary=word, files=())
        self._end("failed", error="it failed", error_category="value_error")
        return Failure(self.number, "it failed")


async def propose(context: Any, previous: Any, comments: list[str], comments_by: str) -> Plan:
    await context.scheduler.wait_while_paused(PLANNING)
    await WORDS.about(PLANNING)
    return Plan.from_reply(PLAN)


async def review(context: Any, plan: Plan) -> list[str]:
    await context.scheduler.wait_while_paused(PLANNING)
    return []


def main(home: str, mode: str) -> None:
    """Start the run or go on with it, and stay until it has ended."""
    step.Attempt = PacedAttempt  # type: ignore[misc]
    engine._propose, engine._review = propose, review
    workspace = Workspace(home)
    if mode == "start":
        run = workspace.planning_and_control(
            "Go on.", model="openai:m", approve="plan,after_step,error", max_attempts=2, name=NAME
        )
    else:
        run = workspace.resume(NAME)
    # Both ends are held open: the pipe does not end when the one who speaks is silent.
    keep = os.open(Path(home) / "control", os.O_RDWR)
    threading.Thread(target=WORDS.listen, args=(Path(home) / "control",), daemon=True).start()
    run.wait()
    os.close(keep)
    workspace.close()
