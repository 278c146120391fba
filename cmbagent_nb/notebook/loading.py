"""Loads the extension: ``%load_ext cmbagent_nb``.

The line stands at once: it tells what is known without asking anything. The rest (the database,
ag2, the widgets, whether Ollama answers, runs that were interrupted) is found out in the
background, and the line is brought up to date.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb._version import __version__
from cmbagent_nb.logs import get_logger
from cmbagent_nb.notebook.background_import import Cells, throttled_imports
from cmbagent_nb.redaction import scrub

if TYPE_CHECKING:
    from cmbagent_nb.workspace import Workspace

_log = get_logger(__name__)
_loaded = False
cells = Cells()


def load_into(shell: Any) -> None:
    """Register the magics and the displays in ``shell``, and print one line."""
    global _loaded  # noqa: PLW0603
    from cmbagent_nb.errors import CMBAgentError
    from cmbagent_nb.notebook import magics
    from cmbagent_nb.notebook.transform import rewrite

    shell.register_magic_function(magics.cell, magic_kind="line_cell", magic_name="cmbagent")
    transforms = shell.input_transformer_manager.cleanup_transforms
    if rewrite not in transforms:
        transforms.insert(0, rewrite)
    if not _loaded:
        displays = shell.display_formatter.ipython_display_formatter
        displays.for_type_by_name("cmbagent_nb.run", "Run", display_run)
        displays.for_type_by_name("cmbagent_nb.skills.handle", "Skill", display_skill)
        displays.for_type_by_name("cmbagent_nb.skills.api", "SkillLibrary", display_library)
        displays.for_type_by_name("cmbagent_nb.skills.learning.analytics", "SkillAnalytics", display_analytics)
        shell.events.register("pre_run_cell", cells.begin)
        shell.events.register("post_run_cell", _after_cell)
        _loaded = True
    try:
        line = Line(shell)
    except CMBAgentError as error:
        print(error)
        return
    line.show()
    threading.Thread(target=line.complete, name="cmbagent-load", daemon=True).start()


def display_run(run: Any) -> None:
    """Show a run that is the value of a cell: its live view."""
    from cmbagent_nb.notebook.view import RunView

    RunView(run).show()


def display_skill(skill: Any) -> None:
    """Show a skill that is the value of a cell: its card, with a form."""
    from cmbagent_nb.notebook.skill_card import SkillCard

    SkillCard(skill).show()


def display_library(library: Any) -> None:
    """Show the skills of a workspace: a list to search, with the card of the one that is opened."""
    from cmbagent_nb.notebook.skill_library import SkillBrowser

    SkillBrowser(library, library._words).show()


def display_analytics(analytics: Any) -> None:
    """Show how the skills are used, as charts."""
    from cmbagent_nb.notebook.skill_charts import show_analytics

    show_analytics(analytics)


def _after_cell(_: Any) -> None:
    cells.end()
    view = sys.modules.get("cmbagent_nb.notebook.view")
    if view is not None:
        view.settle()


class Line:
    """The line that ``%load_ext`` shows."""

    def __init__(self, shell: Any) -> None:
        from cmbagent_nb.workspace import Workspace

        self.workspace = Workspace()
        self._live = getattr(shell, "kernel", None) is not None
        self._handle: Any = None
        self._notes: list[str] = []
        self._model = self._first_model()

    def _first_model(self) -> str:
        """Return the model, as far as it is known without asking a server."""
        from cmbagent_nb.llm.spec import PROVIDERS

        settings = self.workspace.settings
        if settings.model != "auto":
            return settings.model
        if settings.base_url:
            return f"the server at {settings.base_url}"
        for provider in PROVIDERS.values():
            variable = next((name for name in provider.keys if os.environ.get(name)), None)
            if variable:
                return f"{provider.name}:{provider.default} ({variable} is set)"
        return "none found yet; playbooks answer their own recorded tasks"

    def text(self) -> str:
        """The line as it stands."""

        home = str(self.workspace.home)
        own = str(Path.home())
        home = "~" + home[len(own) :] if home.startswith(own + os.sep) else home
        parts = [f"cmbagent_nb {__version__}", f"workspace {home}", f"model: {self._model}", *self._notes]
        return scrub(" · ".join(parts))

    def show(self) -> None:
        """Show the line; in a kernel it can be changed later."""
        if not self._live:
            print(self.text())
            return
        from IPython import display as ipython

        show: Any = ipython.display
        self._handle = show({"text/plain": self.text()}, raw=True, display_id=True)

    def complete(self) -> None:
        """Find out the rest and say it, and load what the next cell is likely to need: what it needs first, first."""
        try:
            if self._live:
                _wake_page()
            before = self.text()
            self._look()
            if self._handle is not None and self.text() != before:
                self._handle.update({"text/plain": self.text()}, raw=True)
            self._load()
        except Exception:
            _log.exception("loading in the background has failed; commands load what they need themselves")

    def _load(self) -> None:
        from cmbagent_nb.workflow.launch import import_heavy

        with throttled_imports(cells):
            if self._live:
                _wake_graph()
            import_heavy()
        if self._live:
            from cmbagent_nb.notebook.progress import progress_bar
            from cmbagent_nb.skills.running import run

            run.progress_display = progress_bar

    def _look(self) -> None:
        from cmbagent_nb.errors import CMBAgentError

        try:
            self._notes = _interrupted(self.workspace)
            if self.workspace.settings.model == "auto":
                from cmbagent_nb.llm.providers import available

                choices = available(settings=self.workspace.settings)
                self._model = (
                    f"{choices[0].spec} ({choices[0].reason})"
                    if choices
                    else "none yet: only the demo's recorded tasks run. Set OPENAI_API_KEY, or start Ollama"
                )
        except CMBAgentError as error:
            self._notes = [str(error)]
        if not _panel():
            self._notes.append("no side panel in this installation")


def _wake_page() -> None:
    """Make a widget of each kind, shown nowhere: the page loads their scripts now and not with the first view."""
    import ipywidgets

    from cmbagent_nb.notebook.page import Page

    for kind in (ipywidgets.HTML, ipywidgets.Output, Page):
        kind()


def _wake_graph() -> None:
    """The same for the graph, whose import takes longer."""
    import ipycytoscape

    ipycytoscape.CytoscapeWidget()


def _interrupted(workspace: Workspace) -> list[str]:
    """Open the database, which the next cell needs anyway, and tell which runs wait in it to be seen to."""
    sql = "SELECT name FROM workflow_runs WHERE status = 'interrupted' ORDER BY created_at DESC LIMIT 4"
    names = [str(row["name"]) for row in workspace._core.db.rows(sql)]
    if not names:
        return []
    more = " …" if len(names) > 3 else ""
    return [f"interrupted: {', '.join(names[:3])}{more} · %cmbagent resume {names[0]}"]


def _panel() -> bool:
    """Tell whether JupyterLab has the side panel."""
    folder = Path(sys.prefix) / "share" / "jupyter" / "labextensions" / "cmbagent-nb"
    return (folder / "package.json").exists()
