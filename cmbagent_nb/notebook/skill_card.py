"""Shows a skill as a card: description, a form for its parameters, results of a run, and history.

| rule | |
|---|---|
| a field a parameter | of the parameter's type; its default is what the field begins with |
| wrong values start nothing | what is wrong is said below the form, and its field is marked |
| a click returns at once | the skill runs on a thread of its own; Stop ends its kernel |
| a saved copy beside it | the cell's second output is static, hidden as long as the live card is there |
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import ipywidgets

from cmbagent_nb.errors import CMBAgentError
from cmbagent_nb.logs import get_logger
from cmbagent_nb.notebook.comms import assign, free_routing, live_bundle
from cmbagent_nb.notebook.fields import Field
from cmbagent_nb.notebook.style import live_css, saved_html
from cmbagent_nb.render import skills as drawn
from cmbagent_nb.render.text import esc

if TYPE_CHECKING:
    from cmbagent_nb.skills.handle import Skill
    from cmbagent_nb.skills.running.execution import SkillExecution

#: Executions that the history shows.
HISTORY = 8

_log = get_logger(__name__)


class SkillCard:
    """The card of one skill: make it, and :meth:`show` it, or put its :attr:`widget` into another."""

    def __init__(self, skill: Skill) -> None:
        self.skill = skill
        self.fields = [Field(item, skill.name) for item in skill.parameters]
        self.last: SkillExecution | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._handle: Any = None
        self._head = ipywidgets.HTML(drawn.skill_head(about(skill)))
        self._run = ipywidgets.Button(
            description="▶ Run", tooltip="Run the notebook with these values; no model is called"
        )
        self._run.add_class("cmbv-primary")
        self._reset = ipywidgets.Button(description="Defaults", tooltip="Put the defaults back into the form")
        self._halt = ipywidgets.Button(
            description="■ Stop", tooltip="End the kernel that runs the skill", disabled=True
        )
        self._note = ipywidgets.HTML()
        self._result = ipywidgets.HTML()
        self._history = ipywidgets.HTML()
        self._run.on_click(lambda _: self.run())
        self._reset.on_click(lambda _: self._defaults())
        self._halt.on_click(lambda _: self._stop.set())
        self.widget = self._build()
        self._show_use()
        free_routing(*self.interactive)

    @property
    def interactive(self) -> list[Any]:
        """The widgets that people use."""
        return [*(field.control for field in self.fields), self._run, self._reset, self._halt]

    @property
    def busy(self) -> bool:
        """Whether a run of the skill is under way."""
        return self._thread is not None and self._thread.is_alive()

    def _build(self) -> Any:
        form = ipywidgets.VBox([field.widget for field in self.fields])
        form.add_class("cmbv-form")
        buttons = ipywidgets.Box([self._run, self._reset, self._halt])
        buttons.add_class("cmbv-answer")
        below = [self._note, self._result, self._history]
        for widget in below:
            widget.add_class("cmbv-below")
        frame = ipywidgets.VBox([self._head, form, buttons, *below])
        frame.add_class("cmbv-frame")
        frame.add_class("cmbv-skill")
        root = ipywidgets.VBox([ipywidgets.HTML(f"<style>{live_css()}</style>"), frame])
        root.add_class("cmbv")
        root.add_class("cmbv-live")
        return root

    # ---- showing

    def show(self) -> SkillCard:
        """Display the card in the running cell."""
        from IPython import display as ipython

        show: Any = ipython.display
        show(live_bundle(self.widget, str(self.skill)), raw=True)
        self._handle = show(self._saved(), raw=True, display_id=True)
        free_routing(*self.interactive)
        return self

    def _saved(self) -> dict[str, Any]:
        made = self.last._repr_html_() if self.last is not None else ""
        html = drawn.skill_html(about(self.skill)) + made
        return {
            "text/html": saved_html(html, f"%cmbagent skill show {self.skill.name}"),
            "text/plain": str(self.skill),
        }

    # ---- running

    def values(self) -> dict[str, Any]:
        """Return the values that differ from the defaults.

        Raises
        ------
        CMBAgentError
            What a field holds is not of its parameter's type.
        """
        return {field.name: field.value for field in self.fields if field.changed}

    def run(self) -> None:
        """Check the form and run the skill with it, on a thread of its own."""
        from cmbagent_nb.skills.running.check import check_parameters

        if self.busy:
            return
        for field in self.fields:
            field.mark("")
        try:
            values = self.values()
            check_parameters(self.skill.info, values)
        except CMBAgentError as error:
            self._refuse(error)
            return
        self._stop = threading.Event()
        self._enable(False)
        self._say("starting the kernel …")
        self._thread = threading.Thread(target=self._work, args=(values,), name="cmbagent-skill", daemon=True)
        self._thread.start()

    def _work(self, values: dict[str, Any]) -> None:
        try:
            self.last = self.skill._library.execute(self.skill, values, on_progress=self._progress, stop=self._stop)
        except CMBAgentError as error:
            self._refuse(error)
        except Exception as error:
            _log.exception("the skill %s could not be run", self.skill.name)
            self._say(f"The skill could not be run ({type(error).__name__}: {error}).", "cmbv-error")
        else:
            self._say("")
            assign(self._result, value=self.last._repr_html_())
            if self._handle is not None:
                self._handle.update(self._saved(), raw=True)
        finally:
            self._show_use()
            self._enable(True)

    def _progress(self, done: int, total: int, text: str) -> None:
        bar = f'<progress value="{done}" max="{max(total, 1)}"></progress> {esc(text)}'
        assign(self._note, value=f'<div class="cmbv-meta">{bar}</div>')
        free_routing(*self.interactive)

    def _refuse(self, error: CMBAgentError) -> None:
        wrong = getattr(error, "parameter", None)
        for field in self.fields:
            if field.name == wrong:
                field.mark(str(error))
                self._say("Not started: please correct the marked field.", "cmbv-error")
                return
        self._say(str(error), "cmbv-error")

    def _say(self, text: str, style: str = "cmbv-meta") -> None:
        assign(self._note, value=f'<div class="{style}">{esc(text)}</div>' if text else "")

    def _enable(self, enabled: bool) -> None:
        for widget in self.interactive:
            assign(widget, disabled=enabled if widget is self._halt else not enabled)
        free_routing(*self.interactive)

    def _defaults(self) -> None:
        for field in self.fields:
            field.reset()
        self._say("")

    def _show_use(self) -> None:
        """Show how often the skill has been run, and how that went."""
        from cmbagent_nb.store import frames

        skill = self.skill._library.get(self.skill.id)
        assign(self._head, value=drawn.skill_head(about(skill)))
        assign(self._history, value=drawn.skill_history(frames.skill_executions(skill.info.db, skill.id), HISTORY))


def about(skill: Skill) -> dict[str, Any]:
    """Return what a card shows of a skill."""
    return {
        **skill.info.as_dict(),
        "verified": skill.verified,
        "description": skill.info.description or skill.info.task,
        "summary": skill.info.summary(),
        "tags": skill.info.tags,
        "trusted": skill.info.trusted,
        "usage_count": skill.info.usage_count,
        "failure_count": skill.info.failure_count,
        "avg_execution_time_s": skill.info.avg_execution_time_s,
    }
