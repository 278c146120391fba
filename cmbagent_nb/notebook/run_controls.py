"""Shows the buttons of a run: pause, resume and cancel, with the reason when one is refused.

| rule | |
|---|---|
| a click returns at once | what waits for the run's process happens on a thread of its own |
| a button says what it is about to do | it stays disabled, as in ``Pausing…``, until the run's status has changed |
| a refusal is said beside the buttons | and goes with the next click |
| a run that can be resumed has a Resume button | paused, or interrupted or failed, which this process takes over |
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets

from cmbagent_nb.errors import CMBAgentError, StateError
from cmbagent_nb.logs import get_logger
from cmbagent_nb.notebook.comms import assign, free_routing
from cmbagent_nb.render.text import esc

if TYPE_CHECKING:
    from cmbagent_nb.run import Run
    from cmbagent_nb.store.snapshot import Snapshot

#: Seconds to wait until the process of a run has done what it was asked for.
PATIENCE = 10.0
_LOOK = 0.05
_PAUSE = ("❚❚ Pause", "Start nothing new; what runs now finishes first")
_RESUME = ("▶ Resume", "Continue; finished steps are not repeated")
_CANCEL = ("■ Cancel", "Stop this run and what it has started")
_GOING = frozenset({"draft", "planning", "executing", "waiting_approval"})
_ENDED = frozenset({"interrupted", "failed"})
_log = get_logger(__name__)


class RunControls:
    """Pause, Resume and Cancel of one run.

    Parameters
    ----------
    run
        Gives the run as the view holds it now.
    on_done
        Is called, on some thread, with the run when something was done or refused; after a run was taken over
        it is another object than before.
    """

    def __init__(self, run: Callable[[], Run], on_done: Callable[[Run], None]) -> None:
        self._run = run
        self._on_done = on_done
        self._status = ""
        self._resumable = False
        self._busy: dict[str, str] = {}
        self._lock = threading.RLock()
        self.pause = ipywidgets.Button()
        self.pause.on_click(self._on_pause)
        self.cancel = ipywidgets.Button()
        self.cancel.on_click(self._on_cancel)
        self.note = ipywidgets.HTML()
        self.note.add_class("cmbv-note")
        self._show()

    @property
    def interactive(self) -> list[Any]:
        """The widgets that people use."""
        return [self.pause, self.cancel]

    def update(self, snapshot: Snapshot) -> None:
        """Show the buttons that fit the run as it stands."""
        with self._lock:
            self._status = str(snapshot.run.get("status") or "")
            self._resumable = self._status == "paused" or (self._status in _ENDED and _can_go_on(snapshot))
            self._show()

    def _show(self) -> None:
        with self._lock:
            text, tooltip = _RESUME if self._resumable else _PAUSE
            asked = self._busy.get("pause")
            waits = bool(asked) or self._status in {"", "draft"}
            assign(self.pause, description=asked or text, tooltip=tooltip, disabled=waits)
            _hide(self.pause, not asked and not self._resumable and bool(self._status) and self._status not in _GOING)
            asked = self._busy.get("cancel")
            assign(self.cancel, description=asked or _CANCEL[0], tooltip=_CANCEL[1], disabled=bool(asked))
            _hide(self.cancel, bool(self._status) and self._status not in _GOING | {"paused"})
            _hide(self.note, not self.note.value)
            free_routing(*self.interactive)

    # What people do

    def _on_pause(self, _: Any) -> None:
        resumes = self._resumable
        self._begin("pause", "Resuming…" if resumes else "Pausing…", self._resume if resumes else self._hold)

    def _on_cancel(self, _: Any) -> None:
        self._begin("cancel", "Cancelling…", self._end)

    def _begin(self, button: str, label: str, work: Callable[[], Run]) -> None:
        with self._lock:
            if button in self._busy:
                return
            self._busy[button] = label
            self.note.value = ""
            self._show()
        threading.Thread(target=self._work, args=(button, work), name=f"cmbagent-{button}", daemon=True).start()

    def _work(self, button: str, work: Callable[[], Run]) -> None:
        run, said = self._run(), ""
        try:
            run = work()
        except CMBAgentError as error:
            said = str(error)
        except Exception as error:
            _log.exception("the button %s of run %s failed", button, run.id)
            said = f"That could not be done ({type(error).__name__}: {error})."
        with self._lock:
            del self._busy[button]
            self.note.value = f'<div class="cmbv-error">{esc(said)}</div>' if said else ""
        self._on_done(run)

    def _hold(self) -> Run:
        run = self._run()
        run.pause()
        return _until(run, "paused", lambda status: status == "paused")

    def _resume(self) -> Run:
        held = self._run()
        run = held.resume()
        return _until(run, "resumed", lambda status: status != "paused")

    def _end(self) -> Run:
        run = self._run()
        run.cancel()
        return _until(run, "cancelled", lambda _: run.finished)


def _until(run: Run, done: str, reached: Callable[[str], bool]) -> Run:
    """Wait until the process that owns the run has done what it was asked for, or the run has ended."""
    until = time.monotonic() + PATIENCE
    while not reached(run.status) and not run.finished:
        if time.monotonic() > until:
            raise StateError(
                f"run {run.name} was not {done}; it is {run.status}", f"See %cmbagent status {run.name}.", run_id=run.id
            )
        time.sleep(_LOOK)
    return run


def _can_go_on(snapshot: Snapshot) -> bool:
    """Tell whether a run that has ended can be taken over here: it is one of ours, no replay, and has its folder."""
    meta, folder = snapshot.run.get("meta"), snapshot.run.get("work_dir")
    if snapshot.run.get("model_source") == "replay":
        return False
    return isinstance(meta, dict) and "request" in meta and bool(folder) and Path(str(folder)).is_dir()


def _hide(widget: Any, hidden: bool) -> None:
    if hidden != ("cmbv-none" in widget._dom_classes):
        (widget.add_class if hidden else widget.remove_class)("cmbv-none")
