"""A gate as a card: what is asked, the plan or the error, a comment field and a button an answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import ipywidgets

from cmbagent_nb.errors import CMBAgentError
from cmbagent_nb.ids import short
from cmbagent_nb.render import parts
from cmbagent_nb.render.text import esc

_LONG = 2000
_COMMENT = {"modified", "redo"}

#: Answers a gate: its id, the answer, the comment. Returns at once.
Answer = Callable[[str, str, str], object]


class GateCard:
    """The card of one open gate; it goes when the gate is answered, wherever that happens."""

    def __init__(self, gate: Mapping[str, Any], answer: Answer) -> None:
        context = gate.get("context")
        context = context if isinstance(context, Mapping) else {}
        self.id = str(gate["id"])
        self._answer = answer
        options = [option for option in context.get("options") or () if isinstance(option, Mapping)]
        self._options = options or [{"id": "approved", "label": "Approve"}, {"id": "rejected", "label": "Reject"}]
        self._comment = ipywidgets.Text(placeholder=self._placeholder(), tooltip="Comment")
        self._note = ipywidgets.HTML(_hint(self.id))
        self._buttons = [self._button(option, index == 0) for index, option in enumerate(self._options)]
        question = ipywidgets.HTML(_question(gate, context))
        row = ipywidgets.Box([*self._buttons, self._comment])
        row.add_class("cmbv-answer")
        self.widget = ipywidgets.VBox([question, row, self._note])
        self.widget.add_class("cmbv-gate")

    @property
    def interactive(self) -> list[Any]:
        """The widgets that people use."""
        return [self._comment, *self._buttons]

    def _placeholder(self) -> str:
        wanting = [str(option.get("label")) for option in self._options if _needs_comment(option)]
        return f"Comment (needed for “{wanting[0]}”)" if wanting else "Comment (optional)"

    def _button(self, option: Mapping[str, Any], first: bool) -> Any:
        button = ipywidgets.Button(description=str(option.get("label") or option.get("id")))
        if first:
            button.add_class("cmbv-primary")
        button.on_click(lambda _: self._click(option))
        return button

    def _click(self, option: Mapping[str, Any]) -> None:
        comment = self._comment.value.strip()
        label = str(option.get("label") or option.get("id"))
        if _needs_comment(option) and not comment:
            self.widget.add_class("cmbv-needs")
            self._say(f"“{label}” needs a comment: write what should be different, then press it again.", "cmbv-error")
            return
        self.widget.remove_class("cmbv-needs")
        self._enable(False)
        self._say(f"Sent: {label}.", "cmbv-meta")
        try:
            self._answer(self.id, str(option["id"]), comment)
        except CMBAgentError as error:
            self._say(str(error), "cmbv-error")
            self._enable(True)

    def _enable(self, enabled: bool) -> None:
        for widget in self.interactive:
            widget.disabled = not enabled

    def _say(self, text: str, style: str) -> None:
        self._note.value = f'<div class="{style}">{esc(text)}</div>'


def _needs_comment(option: Mapping[str, Any]) -> bool:
    return bool(option.get("needs_comment", option.get("id") in _COMMENT))


def _hint(gate_id: str) -> str:
    return f'<div class="cmbv-meta">or <code>%cmbagent approve {esc(short(gate_id))}</code></div>'


def _question(gate: Mapping[str, Any], context: Mapping[str, Any]) -> str:
    title = context.get("title") or str(gate.get("approval_type", "")).replace("_", " ")
    body = str(context.get("body") or "")
    plan, error = context.get("plan"), context.get("error")
    code = context.get("code")
    return (
        f'<div class="cmbv-q">◆ {esc(title)}</div>'
        + (f'<div class="cmbv-meta cmbv-text">{esc(body[:_LONG])}</div>' if body else "")
        + (f'<div class="cmbv-planbox">{parts.plan_table(plan, said=body)}</div>' if isinstance(plan, Mapping) else "")
        + (f"<pre>{esc(_tail(error))}</pre>" if error and str(error) not in body else "")
        + (f"<details><summary>Code</summary><pre>{esc(str(code)[:_LONG])}</pre></details>" if code else "")
    )


def _tail(error: Any) -> str:
    text = error.get("message") or error if isinstance(error, Mapping) else error
    return str(text)[-_LONG:]
