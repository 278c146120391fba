"""Shows a gate as a card: the question, its context, a comment field and a button for each answer."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

import ipywidgets

from cmbagent_nb.errors import CMBAgentError
from cmbagent_nb.ids import short
from cmbagent_nb.notebook.comms import free_routing
from cmbagent_nb.render.gate import gate_html, shown
from cmbagent_nb.render.text import esc

_COMMENT = {"modified", "redo"}
_log = logging.getLogger(__name__)

#: Answers a gate: its id, the answer, the comment, the hash of what was shown. Returns once the decision holds.
Answer = Callable[[str, str, str, str], object]


class GateCard:
    """The card of one open gate; it goes when the gate is answered, wherever that happens."""

    def __init__(self, gate: Mapping[str, Any], answer: Answer) -> None:
        context = gate.get("context")
        context = context if isinstance(context, Mapping) else {}
        self.id = str(gate["id"])
        self._answer = answer
        self._shown = shown(gate)
        options = [option for option in context.get("options") or () if isinstance(option, Mapping)]
        self._options = options or [{"id": "approved", "label": "Approve"}, {"id": "rejected", "label": "Reject"}]
        self._comment = ipywidgets.Text(placeholder=self._placeholder(), tooltip="Comment")
        self._note = ipywidgets.HTML(_hint(self.id))
        self._buttons = [self._button(option, index == 0) for index, option in enumerate(self._options)]
        question = ipywidgets.HTML(gate_html(self._shown, copy=True))
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
        """Send an answer on a thread of its own: a click returns at once, and the outcome is shown."""
        comment = self._comment.value.strip()
        if _needs_comment(option) and not comment:
            self.widget.add_class("cmbv-needs")
            self._say("Say what to change.", "cmbv-error")
            return
        self.widget.remove_class("cmbv-needs")
        self._enable(False)
        self._say(f"Sent: {option.get('label') or option.get('id')}.", "cmbv-meta")
        arguments = (str(option["id"]), comment)
        threading.Thread(target=self._send, args=arguments, name="cmbagent-answer", daemon=True).start()

    def _send(self, resolution: str, comment: str) -> None:
        try:
            self._answer(self.id, resolution, comment, self._shown.hash)
            return
        except CMBAgentError as error:
            said = str(error)
        except Exception as error:
            _log.exception("gate %s could not be answered", self.id)
            said = f"The answer could not be sent ({type(error).__name__}: {error})."
        self._say(said, "cmbv-error")
        self._enable(True)

    def _enable(self, enabled: bool) -> None:
        for widget in self.interactive:
            widget.disabled = not enabled
        free_routing(*self.interactive)

    def _say(self, text: str, style: str) -> None:
        self._note.value = f'<div class="{style}">{esc(text)}</div>'


def _needs_comment(option: Mapping[str, Any]) -> bool:
    return bool(option.get("needs_comment", option.get("id") in _COMMENT))


def _hint(gate_id: str) -> str:
    return f'<div class="cmbv-meta">or <code>%cmbagent approve {esc(short(gate_id))}</code></div>'
