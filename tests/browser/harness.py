"""A real JupyterLab server and a real Chromium, for tests of what people see.

with lab_server(folder) as lab, browser_page(lab, theme="dark") as page:
    notebook = Notebook.open(page, lab, "demo.ipynb", ["%load_ext cmbagent_nb", "…"])
    notebook.run(0)
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = os.environ.get("CMBAGENT_TEST_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
#: Seconds to wait for what should come at once: against a hang, on a machine that does much else.
PATIENCE = 180.0
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}


@dataclass
class Lab:
    """A running server."""

    url: str
    folder: Path
    log: Path

    def write(self, name: str, cells: Sequence[str]) -> Path:
        """Write a notebook with these code cells into the server's folder."""
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        path = self.folder / name
        nbformat.write(notebook, path)
        return path

    def kernels(self) -> list[dict[str, Any]]:
        """The kernels that run."""
        with urllib.request.urlopen(f"{self.url}/api/kernels", timeout=10) as answer:
            found: list[dict[str, Any]] = json.load(answer)
        return found

    def restart_kernel(self) -> None:
        """Restart the first kernel."""
        self._send("POST", f"/api/kernels/{self.kernels()[0]['id']}/restart")

    def stop_sessions(self) -> None:
        """End all kernels: several at once starve each other on a small machine."""
        with urllib.request.urlopen(f"{self.url}/api/sessions", timeout=10) as answer:
            for session in json.load(answer):
                self._send("DELETE", f"/api/sessions/{session['id']}")

    def _send(self, method: str, path: str) -> None:
        request = urllib.request.Request(self.url + path, method=method)
        with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(request, timeout=30):
            pass


@contextlib.contextmanager
def lab_server(folder: Path, environ: Mapping[str, str] | None = None, *, theme: str = "light") -> Iterator[Lab]:
    """Run a JupyterLab server on a free port of this machine, with settings and data of its own."""
    config = folder / ".jupyter"
    settings = config / "lab" / "user-settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "themes.jupyterlab-settings").write_text(json.dumps({"theme": THEMES[theme]}))
    (settings / "notification.jupyterlab-settings").write_text(
        json.dumps({"checkForUpdates": False, "doNotDisturbMode": True, "fetchNews": "false"})
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "CMBAGENT_HOME": str(folder / "home"),
        "JUPYTER_CONFIG_DIR": str(config / "config"),
        "JUPYTER_DATA_DIR": str(config / "data"),
        "JUPYTER_RUNTIME_DIR": str(config / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(config / "lab" / "user-settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(config / "lab" / "workspaces"),
        "IPYTHONDIR": str(config / "ipython"),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])),
        "PYTHONWARNINGS": "default",
        **(environ or {}),
    }
    environment.pop("JUPYTER_PLATFORM_DIRS", None)
    log = folder / "server.log"
    arguments = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}", "--port-retries=0"),
        *("--ServerApp.ip=127.0.0.1", "--IdentityProvider.token=", "--ServerApp.disable_check_xsrf=True"),
        *(
            f"--ServerApp.root_dir={folder}",
            "--ServerApp.open_browser=False",
            "--LabApp.expose_app_in_browser=True",
            "--LabApp.news_url=None",
        ),
    ]
    with log.open("wb") as out:
        server = subprocess.Popen(
            arguments, stdout=out, stderr=out, env=environment, cwd=folder, start_new_session=True
        )
    lab = Lab(f"http://127.0.0.1:{port}", folder, log)
    try:
        _wait_for(lab, server)
        yield lab
    finally:
        with contextlib.suppress(ProcessLookupError):
            server.send_signal(signal.SIGTERM)
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def _wait_for(lab: Lab, server: subprocess.Popen[bytes]) -> None:
    limit = time.monotonic() + PATIENCE
    while time.monotonic() < limit:
        if server.poll() is not None:
            break
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{lab.url}/api/status", timeout=2):
            return
        time.sleep(0.2)
    raise AssertionError(f"JupyterLab did not start:\n{lab.log.read_text()[-3000:]}")


@contextlib.contextmanager
def browser_page(*, width: int = 1400, height: int = 1000) -> Iterator[Any]:
    """Open a page in Chromium; what its console says is kept in ``page.console_lines``."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as kit:
        browser = kit.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage", "--use-gl=swiftshader"]
        )
        page = browser.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(PATIENCE * 1000)
        page.console_lines = []
        page.on("console", lambda line: page.console_lines.append((line.type, line.text)))
        page.on("pageerror", lambda error: page.console_lines.append(("pageerror", str(error))))
        page.foreign = []
        page.on("request", lambda request: page.foreign.append(request.url) if not _own(request.url) else None)
        try:
            yield page
        finally:
            browser.close()


def _own(url: str) -> bool:
    return url.startswith(("http://127.0.0.1:", "data:", "blob:", "ws://127.0.0.1:"))


def holding(lab: Lab, name: str) -> tuple[str, Path]:
    """Return the code of a cell that is busy until a file is there, and that file."""
    path = lab.folder / name
    return f"import pathlib, time\nwhile not pathlib.Path({name!r}).exists():\n    time.sleep(0.05)", path


class Notebook:
    """A notebook that is open in the page."""

    def __init__(self, page: Any, lab: Lab, name: str) -> None:
        self.page = page
        self.lab = lab
        self.name = name

    @classmethod
    def open(cls, page: Any, lab: Lab, name: str, cells: Sequence[str] | None = None) -> Notebook:
        """Open a notebook, written first if cells are given, and wait for its kernel."""
        if cells is not None:
            lab.write(name, cells)
        page.goto(f"{lab.url}/lab/tree/{name}?reset")
        notebook = cls(page, lab, name)
        notebook.ready()
        return notebook

    def ready(self) -> None:
        """Wait until the kernel is idle."""
        self.page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status=idle]", state="attached")
        self.page.wait_for_timeout(500)  # Lab moves the focus once more after that

    def cell(self, index: int) -> Any:
        """A code cell."""
        return self.page.locator(".jp-NotebookPanel:visible .jp-CodeCell").nth(index)

    def start(self, index: int) -> None:
        """Run a cell without waiting for it."""
        prompt = self.cell(index).locator(".jp-InputPrompt").first
        before = prompt.inner_text()
        for _ in range(3):
            self._focus(index)
            self.page.keyboard.press("Control+Enter")
            limit = time.monotonic() + 20
            while prompt.inner_text() == before and time.monotonic() < limit:
                self.page.wait_for_timeout(20)
            if prompt.inner_text() != before:
                return  # Lab may take the focus away once more after a notebook has opened: then it is tried again

    def _focus(self, index: int) -> None:
        """Put the cursor into a cell; while Lab lays the notebook out, a click can fall into the next one."""
        active = self.page.locator(".jp-NotebookPanel:visible .jp-CodeCell.jp-mod-active")
        for _ in range(20):
            self.cell(index).locator(".cm-content").first.click()
            self.page.wait_for_timeout(100)
            same = active.count() == 1 and active.bounding_box() == self.cell(index).bounding_box()
            if same and self.page.evaluate("() => document.activeElement.classList.contains('cm-content')"):
                return

    def done(self, index: int, timeout: float = PATIENCE) -> None:
        """Wait until a cell that was started has ended."""
        prompt = self.cell(index).locator(".jp-InputPrompt").first
        limit = time.monotonic() + timeout
        lost = time.monotonic() + 20
        while (said := prompt.inner_text().strip()) in {"[*]:", "[ ]:"}:
            assert time.monotonic() < limit, f"cell {index} did not end: {self.text(index)}"
            if said == "[*]:":
                lost = time.monotonic() + 20
            elif time.monotonic() > lost:  # Lab drops what it was given before its connection to the kernel stood
                self.start(index)
                lost = time.monotonic() + 20
            self.page.wait_for_timeout(50)

    def run(self, index: int, timeout: float = PATIENCE) -> None:
        """Run a cell and wait for its end."""
        self.start(index)
        self.page.wait_for_timeout(50)
        self.done(index, timeout)

    def text(self, index: int) -> str:
        """What a cell has put out, as text."""
        return "\n".join(self.cell(index).locator(".jp-OutputArea-output").all_inner_texts())

    def save(self) -> dict[str, Any]:
        """Save the notebook and return what is in the file."""
        self.command("docmanager:save")
        content: dict[str, Any] = json.loads((self.lab.folder / self.name).read_text())
        return content

    def copied(self, index: int, words: str) -> None:
        """Wait until the static copy of a cell's view, which the page hides, says this."""
        self.cell(index).locator(".cmbv-saved", has_text=words).first.wait_for(state="attached")

    def command(self, name: str, **arguments: Any) -> None:
        """Do what a menu item of JupyterLab does."""
        script = "async ([name, args]) => { await window.jupyterapp.commands.execute(name, args); }"
        self.page.evaluate(script, [name, arguments])

    def theme(self, name: str) -> None:
        """Change to the light or to the dark theme."""
        self.command("apputils:change-theme", theme=THEMES[name])
        self.page.wait_for_selector(
            f"body[data-jp-theme-light={'true' if name == 'light' else 'false'}]", state="attached"
        )

    def reload(self) -> None:
        """Reload the page."""
        self.page.reload()
        self.ready()

    def picture(self, index: int, path: Path) -> Path:
        """Make a picture of a cell's outputs."""
        path.parent.mkdir(parents=True, exist_ok=True)
        area = self.cell(index).locator(".jp-Cell-outputWrapper").first
        area.scroll_into_view_if_needed()
        area.screenshot(path=str(path))
        return path
