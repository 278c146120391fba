"""Routes widget messages so that a click arrives while a cell is running.

ipykernel 7 answers a widget on the shell that last sent to it; a widget that was made or updated
in the main shell would then wait for the running cell. Where that attribute is found, it is
emptied, and the front end's own choice (a subshell) holds. Elsewhere nothing is done.
"""

from __future__ import annotations

from typing import Any


def free_routing(*widgets: Any) -> None:
    """Let the front end choose where messages to these widgets are handled; call it after every update."""
    for widget in widgets:
        comm = getattr(widget, "comm", None)
        if comm is not None and hasattr(comm, "_reply_subshell_for"):
            comm._reply_subshell_for = None


def assign(widget: Any, **values: Any) -> bool:
    """Assign the traits that differ from what the widget has; tell whether anything did."""
    changed = {name: value for name, value in values.items() if getattr(widget, name) != value}
    for name, value in changed.items():
        setattr(widget, name, value)
    return bool(changed)


def live_bundle(widget: Any, text: str) -> dict[str, Any]:
    """Return what displays a widget; where there are no widgets, ``text`` stands in for it."""
    view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
    return {"application/vnd.jupyter.widget-view+json": view, "text/html": "", "text/plain": text}
