"""A Jupyter server of the tests, in a process of its own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

TOKEN = "a-token-of-the-tests"


class Server:
    """A Jupyter server with nothing of the user's, and a way to ask it."""

    def __init__(self, folder: Path, homes: list[Path], **variables: str) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        listing = folder / "workspaces.json"
        listing.write_text(
            json.dumps({"workspaces": [{"path": str(home), "opened_at": 1_700_000_000.0} for home in homes]})
        )
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("CMBAGENT", "JUPYTER"))
        }
        environment |= {
            "XDG_DATA_HOME": str(folder / "default"),  # CMBAGENT_HOME would confine the server to one workspace
            "CMBAGENT_WORKSPACES_FILE": str(listing),
            "JUPYTER_CONFIG_DIR": str(folder / "config"),
            "JUPYTER_DATA_DIR": str(folder / "data"),
            "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
            "PYTHONPATH": str(Path(__file__).parent.parent),
            **variables,
        }
        command = [
            sys.executable,
            "-m",
            "jupyter_server",
            "--no-browser",
            "--allow-root",
            f"--port={self.port}",
            "--port-retries=0",
            f"--IdentityProvider.token={TOKEN}",
            f"--ServerApp.root_dir={folder}",
            "--ServerApp.jpserver_extensions={'cmbagent_nb.server': True}",
        ]
        self.log = (folder / "server.log").open("w+")
        self.process = subprocess.Popen(command, env=environment, stdout=self.log, stderr=self.log, cwd=folder)
        until = time.monotonic() + 60
        while self.process.poll() is None and time.monotonic() < until:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api", timeout=5).close()
                return
            except OSError:
                time.sleep(0.05)  # a port that opens cannot be awaited
        raise AssertionError(Path(self.log.name).read_text())

    def ask(
        self, path: str, body: Any = None, *, token: str = TOKEN, raw: bytes | None = None, method: str | None = None
    ) -> tuple[int, Any]:
        """Send a request below ``/cmbagent/api`` and return status and JSON."""
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"token {token}"} if token else {}
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/cmbagent/api/{path}", data, headers, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)
        self.log.close()
