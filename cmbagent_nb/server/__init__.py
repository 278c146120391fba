"""Serves REST under ``/cmbagent/api`` in the Jupyter server, for the side panel and for scripts."""

from __future__ import annotations

from typing import Any


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "cmbagent_nb.server"}]


def _load_jupyter_server_extension(server_app: Any) -> None:
    """Add the handlers; the Jupyter server calls this when it starts."""
    from cmbagent_nb.logs import redact
    from cmbagent_nb.server.routes import routes

    redact(server_app.log)
    server_app.web_app.add_handlers(".*$", routes(server_app.web_app.settings["base_url"]))
