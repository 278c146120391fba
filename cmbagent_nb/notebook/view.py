"""Shows the live view of a run.

| rule | |
|---|---|
| it draws snapshots | so any run can be shown: of this process, of another, finished, interrupted |
| a thread of its own | daemon, asleep between changes, at most ten times a second, ends with the run |
| only what changed is assigned | a lost message or a page reload does no harm |
| click handlers return at once | answers at gates, pause, resume and cancel have a thread of their own |
| a run that goes on again is followed again | also when this view has resumed it, as another object |
| a saved copy beside it | the cell's second output is static, hidden as long as a live view is there |

Widget state is not saved, and a front end that finds a widget's output without the widget shows an error
in its place. So the live view and the static copy are two outputs of the cell: the copy is brought up to
date as the run goes on, without the live view being torn down, and is what a saved notebook shows.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import GateAlreadyAnswered
from cmbagent_nb.ids import short
from cmbagent_nb.logs import get_logger
from cmbagent_nb.notebook.comms import assign, free_routing, live_bundle
from cmbagent_nb.notebook.style import live_css, saved_html
from cmbagent_nb.render import parts
from cmbagent_nb.render.html import run_html
from cmbagent_nb.render.labels import label
from cmbagent_nb.render.mermaid import graph_mermaid
from cmbagent_nb.render.node import node_panel
from cmbagent_nb.render.preview import planned
from cmbagent_nb.render.text import cut, esc

if TYPE_CHECKING:
    from cmbagent_nb.notebook.gates import GateCard
    from cmbagent_nb.notebook.graph import GraphView
    from cmbagent_nb.run import Run
    from cmbagent_nb.store.snapshot import Snapshot

_PACE = 0.1
_TICK = 1.0
_SAVE_PACE = 3.0
_log = get_logger(__name__)
_open: set[RunView] = set()


class RunView:
    """The view of one run: make it, and :meth:`show` it.

    Parameters
    ----------
    run
        A run of any process.
    """

    def __init__(self, run: Run) -> None:
        import ipywidgets

        from cmbagent_nb.notebook.run_controls import RunControls

        self.run = run
        self._wake = threading.Event()
        self._lock = threading.RLock()
        self._cards: dict[str, GateCard] = {}
        self._selected = ""
        self._titles: tuple[str, ...] = ()
        self._handle: Any = None
        self._saved: Any = None
        self._saved_at = 0.0
        self._fit = 0
        self._followed = False
        self._node_state: tuple[Any, ...] = ()
        self.snapshot: Snapshot = run.snapshot()
        self._status = ipywidgets.HTML()
        self._controls = RunControls(lambda: self.run, self._went_on)
        self._gates = ipywidgets.VBox()
        self._race = ipywidgets.HTML()
        self._race.add_class("cmbv-note")
        self._race.add_class("cmbv-none")
        self._graph: GraphView = _first_graph(self._select)
        self._graph_box = ipywidgets.Box([self._graph.widget])
        self._events = ipywidgets.HTML()
        self._gantt_box = ipywidgets.Box()
        self._gantt: Any = None
        self._step = ipywidgets.HTML()
        self._files: Any = None
        self._files_box = ipywidgets.Box()
        self._messages = ipywidgets.HTML()
        self._costs = ipywidgets.HTML()
        self._result = ipywidgets.HTML()
        self._footer = ipywidgets.HTML()
        self._page: Any = None
        self.widget = self._build(ipywidgets)
        self._apply(self.snapshot)

    def _build(self, kit: Any) -> Any:
        top = kit.Box([self._status, *self._controls.interactive])
        two = kit.Box([self._events, self._gantt_box])
        self._tabs = kit.Tab(
            [two, self._step, self._files_box, self._messages, self._costs],
            titles=("Timeline", "Step", "Files", "Messages", "Cost"),
            selected_index=0,
        )
        for widget, name in (
            (top, "cmbv-top"),
            (self._gates, "cmbv-gates"),
            (self._graph_box, "cmbv-graphbox"),
            (two, "cmbv-two"),
            (self._events, "cmbv-events"),
            (self._gantt_box, "cmbv-gantt"),
            (self._footer, "cmbv-bottom"),
        ):
            widget.add_class(name)
        for widget in (self._step, self._files_box, self._messages, self._costs, self._result):
            widget.add_class("cmbv-tab")
        frame = kit.VBox([top, self._controls.note, self._race, self._gates, self._graph_box, self._tabs, self._footer])
        frame.add_class("cmbv-frame")
        self._root = kit.VBox([kit.HTML(f"<style>{live_css()}</style>"), frame])
        self._root.add_class("cmbv")
        self._root.add_class("cmbv-live")
        return self._root

    # Showing

    def show(self) -> RunView:
        """Display the view in the running cell, and keep it up to date until the run ends."""
        from IPython import display as ipython

        show: Any = ipython.display
        show(self._live_bundle(), raw=True)
        self._handle = show(self._saved_bundle(), raw=True, display_id=True)
        free_routing(*self._interactive())
        self._begin()
        return self

    def _live_bundle(self) -> dict[str, Any]:
        name = self.snapshot.run.get("name") or short(self.run.id)
        return live_bundle(self.widget, f"Run {name}")

    def _saved_bundle(self) -> dict[str, Any]:
        html = run_html(self.snapshot, place=self._place())
        name = self.snapshot.run.get("name") or short(self.run.id)
        return {
            "text/html": saved_html(html, f"%cmbagent show {name}"),
            "text/plain": graph_mermaid(self.snapshot),
        }

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return {**self._live_bundle(), **self._saved_bundle()}

    def _place(self) -> str:
        return recorded_in(self.snapshot.run.get("work_dir"))

    # Following the run

    def _begin(self) -> None:
        """Follow the run, if nothing does yet."""
        with self._lock:
            if self._followed:
                self._wake.set()
                return
            self._followed = True
            _open.add(self)
        threading.Thread(target=self._follow, name=f"cmbagent-view-{short(self.run.id)}", daemon=True).start()

    def _follow(self) -> None:
        unsubscribe = self.run.subscribe(self._wake.set)
        try:
            self._complete()
            while not self._over():
                self._wake.wait(_TICK)
                time.sleep(_PACE)
                self._wake.clear()
        except Exception:
            _log.exception("the view of run %s stopped", self.run.id)
            self._leave()
            self._footer.value = (
                '<div class="cmbv-error">This view has stopped; the run goes on. '
                f"<code>%cmbagent show {esc(short(self.run.id))}</code> shows it.</div>"
            )
        finally:
            unsubscribe()

    def _over(self) -> bool:
        """Show the run's state; once it has ended nothing follows it until it is resumed."""
        with self._lock:
            ended = self.refresh()
            if ended:
                self._leave()
            return ended

    def _leave(self) -> None:
        _open.discard(self)
        self._followed = False

    def _touch(self) -> None:
        """Show what the page or a person has changed: by the thread while it runs, else at once."""
        if self._followed:
            self._wake.set()
            return
        with self._lock:
            self._apply(self.snapshot)

    def _complete(self) -> None:
        """Load what the first moment does without: the interactive graph, the page's theme, the timeline."""
        from cmbagent_nb.notebook.files import FilesPanel
        from cmbagent_nb.notebook.graph import CytoscapeGraph, StaticGraph
        from cmbagent_nb.notebook.page import Page
        from cmbagent_nb.notebook.timeline import Gantt

        with self._lock:
            if self._page is not None:
                return
            self._page = Page()
            self._page.observe(self._on_page, ["theme", "width", "drawn"])
            self._gantt = Gantt()
            self._gantt_box.children = (self._gantt.widget,)
            self._files = FilesPanel()
            self._files_box.children = (self._files.widget,)
            if isinstance(self._graph, StaticGraph):
                self._graph = CytoscapeGraph(self._select)
                self._apply(self.snapshot)
                self._graph_box.children = (self._graph.widget,)
            self._root.children = (*self._root.children, self._page)
            self._fit = 2

    def refresh(self) -> bool:
        """Read the run's state and show it; tell whether the run has ended."""
        with self._lock:
            self.snapshot = self.run.snapshot()
            self._apply(self.snapshot)
            self._save(self.snapshot.finished)
            return self.snapshot.finished

    def _save(self, last: bool) -> None:
        """Update the static copy: at once at the end and for a gate, else when statuses have changed, and seldom."""
        gates = tuple(gate["id"] for gate in self.snapshot.gates)
        state = (
            gates,
            self.snapshot.run.get("status"),
            tuple((node["node_id"], node.get("status")) for node in self.snapshot.nodes),
            last,
        )
        now = time.monotonic()
        if self._handle is None or state == self._saved:
            return
        # A run that waits at a gate changes nothing more: what is put off then would never be saved.
        urgent = last or (self._saved is not None and gates != self._saved[0])
        if not urgent and now - self._saved_at <= _SAVE_PACE:
            return
        self._saved, self._saved_at = state, now
        self._handle.update(self._saved_bundle(), raw=True)

    def _apply(self, snapshot: Snapshot) -> None:
        theme = self._page.theme if self._page else ""
        run = snapshot.run
        assign(self._status, value=parts.status_line(snapshot))
        self._controls.update(snapshot)
        self._apply_gates(snapshot)
        self._graph.theme(theme)
        nodes, edges = planned(snapshot)
        if self._fit:
            self._fit -= 1
            self._graph.fit(self._page.width if self._page else 0)
        self._graph.update(nodes, edges, self._selected)
        assign(self._events, value=parts.event_list(snapshot))
        self._apply_node(snapshot, self._selected or _interesting(snapshot))
        assign(self._messages, value=parts.message_list(snapshot))
        assign(self._costs, value=parts.cost_table(snapshot))
        assign(self._footer, value=parts.footer(snapshot, place=self._place()))
        folder = Path(str(run["work_dir"])) if run.get("work_dir") else None
        if self._files:
            self._files.update(snapshot.files, int(run.get("n_files") or 0), folder)
        if self._gantt:
            self._gantt.update(snapshot, theme, self._page.width if self._page else 0)
        self._apply_result(parts.result(snapshot) if snapshot.finished else "")
        self._name_tabs(snapshot)
        free_routing(*self._interactive())

    def _apply_node(self, snapshot: Snapshot, node_id: str) -> None:
        """Show a node with all that the record has of it, read again when something has happened there."""
        node = next((item for item in snapshot.nodes if item.get("node_id") == node_id), {})
        state = (node_id, *(node.get(name) for name in ("n_events", "status", "attempt", "n_files")), snapshot.finished)
        if state == self._node_state:
            return
        self._node_state = state
        detail = self.run.node(node_id) if node else None
        assign(self._step, value=node_panel(snapshot, node_id, detail))

    def _apply_gates(self, snapshot: Snapshot) -> None:
        from cmbagent_nb.notebook.gates import GateCard

        ids = [str(gate["id"]) for gate in snapshot.gates]
        if ids == list(self._cards):
            return
        self._cards = {
            str(gate["id"]): self._cards.get(str(gate["id"])) or GateCard(gate, self._answer) for gate in snapshot.gates
        }
        self._gates.children = tuple(card.widget for card in self._cards.values())

    def _apply_result(self, result: str) -> None:
        """Show the result as a last tab; a run that goes on again has none."""
        assign(self._result, value=result)
        others = tuple(widget for widget in self._tabs.children if widget is not self._result)
        wanted = (*others, self._result) if result else others
        if wanted != self._tabs.children:
            if self._tabs.selected_index == len(others):
                self._tabs.selected_index = 0
            self._tabs.children = wanted

    def _name_tabs(self, snapshot: Snapshot) -> None:
        run = snapshot.run
        node = self._selected or _interesting(snapshot)
        found = next((item for item in snapshot.nodes if item.get("node_id") == node), None)
        titles = [
            "Timeline",
            cut(label(found).title, 22) if found else "Step",
            _counted("Files", run.get("n_files")),
            _counted("Messages", run.get("n_messages")),
            "Cost",
        ]
        if self._result in self._tabs.children:
            titles.append("Result")
        if tuple(titles) != self._titles:
            self._titles = tuple(titles)
            self._tabs.titles = self._titles

    def _interactive(self) -> list[Any]:
        cards = [widget for card in self._cards.values() for widget in card.interactive]
        page = [self._page] if self._page else []
        return [*self._controls.interactive, self._tabs, *self._graph.interactive(), *cards, *page]

    # What people do

    def _went_on(self, run: Run) -> None:
        """Show what a button has done; a run that was taken over is another object, and is followed again."""
        with self._lock:
            self.run = run
        self._begin()

    def _answer(self, gate: str, resolution: str, comment: str, hash: str) -> None:
        """Answer a gate; if it was answered before, show that decision below the cards, since its own card goes."""
        try:
            self.run.approve(gate, resolution, feedback=comment, hash=hash)
            self._lost("")
        except GateAlreadyAnswered as error:
            self._lost(str(error))
            raise
        finally:
            self._touch()

    def _lost(self, text: str) -> None:
        assign(self._race, value=f'<div class="cmbv-error">{esc(text)}</div>' if text else "")
        (self._race.remove_class if text else self._race.add_class)("cmbv-none")

    def _select(self, node: str) -> None:
        self._selected = "" if node == self._selected else node
        if self._selected:
            self._tabs.selected_index = 1
        self._touch()

    def _on_page(self, change: Mapping[str, Any]) -> None:
        if change["name"] != "theme":
            self._fit = 2 if change["name"] == "drawn" else 1
        self._touch()


def recorded_in(work_dir: str | None) -> str:
    """Return what the footer calls the place of the record: the file, where the run is in its workspace's folder.

    >>> recorded_in("/data")
    'the database'
    """
    own = work_dir and (Path(work_dir).parent.parent / "cmbagent.db").exists()
    return "cmbagent.db" if own else "the database"


def settle() -> None:
    """Finish the views of runs that have ended; called at the end of every cell.

    A notebook that is run without a page takes updates of an output only from the cell that is running:
    so the last state must be there before the cell that waited for the run ends.
    """
    for view in list(_open):
        if view.run.finished:
            limit = time.monotonic() + 3.0
            while not view.refresh() and time.monotonic() < limit:
                time.sleep(0.02)
            _open.discard(view)


def _first_graph(on_select: Any) -> GraphView:
    """The interactive graph when it is loaded already, else the static one for the first moment."""
    from cmbagent_nb.notebook.graph import CytoscapeGraph, StaticGraph

    loaded = hasattr(sys.modules.get("ipycytoscape"), "CytoscapeWidget")
    return CytoscapeGraph(on_select) if loaded else StaticGraph()


def _interesting(snapshot: Snapshot) -> str:
    """The node to show when none is chosen: one that failed or waits, else one that runs, else the last done."""
    for statuses in ({"waiting_approval", "failed", "retrying"}, {"running"}, {"completed"}):
        found = [
            str(node["node_id"])
            for node in snapshot.nodes
            if node.get("status") in statuses and node.get("node_type") in {"step", "planning"}
        ]
        if found:
            return found[-1] if statuses == {"completed"} else found[0]
    return str(snapshot.nodes[0]["node_id"]) if snapshot.nodes else ""


def _counted(name: str, number: Any) -> str:
    return f"{name} {number}" if number else name
