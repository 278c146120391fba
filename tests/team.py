"""A scripted team of agents behind a real HTTP server: what each agent answers, by agent, step and attempt."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from tests.openai_server import Status, schema_name, text_of


def code(python: str, filename: str = "step.py") -> dict[str, Any]:
    """An engineer's reply."""
    return {"filename": filename, "explanation": "It does what was asked for.", "python_code": python}


def plan(*steps: Mapping[str, Any]) -> dict[str, Any]:
    """A planner's reply; each step has a title and whatever else differs from the defaults."""
    return {
        "goal": "reach the goal",
        "steps": [
            {
                "agent": "engineer",
                "instructions": f"Do {step['title']}.",
                "bullet_points": [],
                "depends_on": [],
                "needs_approval": False,
                "expected_outputs": [],
                **step,
            }
            for step in steps
        ],
    }


APPROVED = {"approved": True, "recommendations": []}
CHANGES = {"approved": False, "recommendations": ["Save the numbers as JSON."]}


class Team:
    """A handler for :class:`~tests.openai_server.OpenAIServer`.

    ``answers`` maps a key to one answer, used again and again, or to a list, used in turn. The key is the
    name of the reply's schema in lower case (``plan``, ``review``, ``report``, ``verdict``), and for code the title of
    the step, which stands in the prompt.
    """

    def __init__(self, **answers: Any) -> None:
        self.steps: dict[str, Any] = answers.pop("steps", {})
        self.answers = answers
        self.asked: dict[str, int] = defaultdict(int)
        self._lock = threading.Lock()

    def __call__(self, request: dict[str, Any]) -> Any:
        key, answer = self._find(request)
        if answer is None:
            return Status(418, message=f"nobody said what {key!r} answers")
        with self._lock:
            index, self.asked[key] = self.asked[key], self.asked[key] + 1
        if isinstance(answer, list):
            answer = answer[min(index, len(answer) - 1)]
        return answer(request) if isinstance(answer, Callable) else answer  # type: ignore[arg-type]

    def _find(self, request: dict[str, Any]) -> tuple[str, Any]:
        schema = (schema_name(request) or "text").lower()
        prompt = "\n".join(text_of(message) for message in request["messages"] if message["role"] == "user")
        for title, answer in self.steps.items():
            if f"# Your step: {title}" in prompt:
                return title, answer
        return schema, self.answers.get(schema)
