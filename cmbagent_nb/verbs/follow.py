"""Following a run on a terminal: a line for each thing that a person would want to hear of."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from cmbagent_nb.ids import short
from cmbagent_nb.render.gate import gate_text
from cmbagent_nb.render.labels import main_nodes
from cmbagent_nb.render.text import clock
from cmbagent_nb.store.event_labels import error_word
from cmbagent_nb.verbs.text import node_line

if TYPE_CHECKING:
    from cmbagent_nb.run import Run
    from cmbagent_nb.store.database import Database
    from cmbagent_nb.store.snapshot import Snapshot
    from cmbagent_nb.workspace import Workspace

#: Seconds after which is looked again though nothing was heard.
LOOK_AGAIN = 1.0


def follow(ws: Workspace, run: Run, say: Callable[[str], None], *, quiet: bool = False, prog: str = "cmbagent") -> None:
    """Wait for the end of a run and say what happens; when ``quiet``, only that a gate waits."""
    from cmbagent_nb.store.snapshot import read_snapshot

    news = _News(prog, quiet)
    changed = threading.Event()
    stop = run.subscribe(changed.set)
    try:
        while True:
            ended = run.finished
            changed.clear()
            for line in news.of(read_snapshot(ws._core.db, run.id, events=0, messages=0, files=0), ws._core.db):
                say(line)
            if ended:
                return
            changed.wait(LOOK_AGAIN)
    finally:
        stop()


class _News:
    """Remembers what was said already."""

    def __init__(self, prog: str, quiet: bool) -> None:
        self._prog = prog
        self._quiet = quiet
        self._begun = False
        self._said: dict[str, tuple[Any, ...]] = {}
        #: The newest attempt at each node of which was said that another one follows.
        self._retried: dict[str, int] = {}
        self._gates: set[str] = set()

    def of(self, snapshot: Snapshot, db: Database) -> list[str]:
        lines = []
        row, first = snapshot.run, not self._begun
        if first and not self._quiet:
            lines.append(f"{row['name']} · {row['mode']} · {row['model']} · run {short(row['id'])} · {row['work_dir']}")
        self._begun = True
        for node in main_nodes(snapshot.nodes) if not self._quiet else ():
            if self._is_news(node):
                for missed in self._missed(node, row["id"], db, first=first):
                    lines.append(f"{clock(row['elapsed_s'])} {node_line(missed)}")
                lines.append(f"{clock(row['elapsed_s'])} {node_line(node)}")
        for gate in snapshot.gates:
            if gate["id"] not in self._gates:
                self._gates.add(gate["id"])
                lines += gate_lines(gate, self._prog)
        return lines

    def _is_news(self, node: Mapping[str, Any]) -> bool:
        """Tell whether there is something new to say of a node, and remember that it was said."""
        status, attempt = node["status"], max(1, node["attempt"])
        before = self._said.get(node["node_id"])
        # A step that is tried again is news when its next attempt begins, which is a moment later.
        if node["node_type"] == "terminator" or status == "pending" or before == (status, attempt):
            return False
        if status == "running" and before == ("retrying", attempt):
            return False
        self._said[node["node_id"]] = (status, attempt)
        return True

    def _missed(
        self, node: Mapping[str, Any], run_id: str, db: Database, *, first: bool
    ) -> Iterator[Mapping[str, Any]]:
        """Yield the node as it was between two attempts: that lasts for a moment, in which nobody may have looked.

        What was before the first look, in a run that is resumed, is no news.
        """
        name, newest = node["node_id"], max(1, node["attempt"])
        ended = newest if node["status"] == "retrying" else newest - 1
        told, self._retried[name] = self._retried.get(name, 0), ended
        if first or told >= newest - 1:
            return
        query = (
            "SELECT attempt, error FROM step_attempts WHERE run_id = :run AND node_id = :node"
            " AND attempt > :told AND attempt < :newest ORDER BY attempt"
        )
        for row in db.rows(query, run=run_id, node=name, told=told, newest=newest):
            yield {**node, "status": "retrying", "attempt": row["attempt"], "error_word": error_word(row["error"])}


def gate_lines(gate: Mapping[str, Any], prog: str) -> list[str]:
    """Write a gate that waits, whole, and how to answer it."""
    context, name = gate["context"] or {}, short(str(gate["id"]))
    lines = gate_text(gate)
    for option in context.get("options") or ():
        lines.append(f"  {option['label']:28}{how(str(option['id']), name, prog, str(gate.get('approval_type')))}")
    return lines


def how(option: str, name: str, prog: str, kind: str = "") -> str:
    """Return the command that answers a gate with an option."""
    if (kind, option) == ("tool_call", "rejected"):
        return f'{prog} reject {name} --feedback "WHY"'
    known = {
        "approved": f"{prog} approve {name}",
        "rejected": f"{prog} reject {name}",
        "modified": f'{prog} changes {name} "WHAT TO CHANGE"',
        "redo": f'{prog} approve {name} --choose redo --feedback "WHAT TO CHANGE"',
    }
    return known.get(option) or f"{prog} approve {name} --choose {option}"
