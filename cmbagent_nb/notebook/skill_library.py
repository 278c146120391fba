"""Shows the skill library in a notebook: search by words, match a task, open a skill's card.

| rule | |
|---|---|
| a change shows at once | search waits for no button; matching a task, which takes longer, has one |
| a bounded list | so many rows; what is left out is said |
| a row opens the card | with the form and the history, below the list |
| a saved copy beside it | the cell's second output is static, hidden as long as the live library is there |
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ipywidgets

from cmbagent_nb.errors import CMBAgentError
from cmbagent_nb.notebook.comms import assign, free_routing, live_bundle
from cmbagent_nb.notebook.style import live_css, saved_html
from cmbagent_nb.render import skills as drawn
from cmbagent_nb.render.text import esc, plural

if TYPE_CHECKING:
    from cmbagent_nb.notebook.skill_card import SkillCard
    from cmbagent_nb.skills.api import SkillLibrary

#: Skills that the list shows at once.
MOST = 25
_ALL = "all tags"


class SkillBrowser:
    """The skills of a workspace: make it, and :meth:`show` it.

    Parameters
    ----------
    search
        What is searched for to begin with.
    """

    def __init__(self, library: SkillLibrary, search: str = "") -> None:
        self.library = library
        self.card: SkillCard | None = None
        self._search = ipywidgets.Text(
            value=search, placeholder="Search: words, or a whole task", continuous_update=True
        )
        self._tag = ipywidgets.Dropdown(options=[_ALL, *self._tags()], value=_ALL)
        self._match = ipywidgets.Button(description="Match task", tooltip="Find the skills that can do this task")
        self._note = ipywidgets.HTML()
        self._rows = ipywidgets.VBox()
        self._opened = ipywidgets.VBox()
        self._search.observe(self._look, "value")
        self._tag.observe(self._look, "value")
        self._match.on_click(self._find)
        self.widget = self._build()
        self._look()

    @property
    def interactive(self) -> list[Any]:
        """The widgets that people use."""
        rows = [row.children[0] for row in self._rows.children]
        card = self.card.interactive if self.card is not None else []
        return [self._search, self._tag, self._match, *rows, *card]

    def _about(self) -> dict[str, dict[str, Any]]:
        """Return what a list shows of each skill, by its id."""
        rows = self.library.list().to_dict("records")
        return {str(row["id"]): {str(name): value for name, value in row.items()} for row in rows}

    def _tags(self) -> list[str]:
        return sorted({str(tag) for tags in self.library.list()["tags"] for tag in (tags or ())})

    def _build(self) -> Any:
        top = ipywidgets.Box([self._search, self._tag, self._match])
        top.add_class("cmbv-answer")
        self._rows.add_class("cmbv-form")
        self._note.add_class("cmbv-below")
        self._opened.add_class("cmbv-open")
        frame = ipywidgets.VBox([top, self._note, self._rows])
        frame.add_class("cmbv-frame")
        frame.add_class("cmbv-skill")
        root = ipywidgets.VBox([ipywidgets.HTML(f"<style>{live_css()}</style>"), frame, self._opened])
        root.add_class("cmbv")
        root.add_class("cmbv-live")
        return root

    def show(self) -> SkillBrowser:
        """Display the library in the running cell."""
        from IPython import display as ipython

        show: Any = ipython.display
        show(live_bundle(self.widget, "skills"), raw=True)
        table = drawn.skill_list(list(self._about().values()))
        html = saved_html(table, "%cmbagent skills")
        show({"text/html": html, "text/plain": "skills"}, raw=True)
        free_routing(*self.interactive)
        return self

    # ---- what is listed

    def _look(self, _: Any = None) -> None:
        """List what has the words; the rest of the library is a search away."""
        tags = () if self._tag.value == _ALL else (self._tag.value,)
        found = self.library.search(self._search.value, tags=tags)
        about = self._about()
        rows = [about[str(item)] for item in found["skill_id"]]
        left = f", the first {MOST} are shown" if len(rows) > MOST else ""
        said = (
            plural(len(rows), "skill") + left if rows else "No match. Describe the whole task and press “Match task”."
        )
        self._list([(str(row["id"]), row, drawn.skill_row(row)) for row in rows[:MOST]], said)

    def _find(self, _: Any) -> None:
        """List what fits the task that stands in the search field, with the reasons."""
        task = self._search.value.strip()
        if not task:
            self._say("Write a task into the field first, as you would give it to a run.", "cmbv-error")
            return
        try:
            tags = () if self._tag.value == _ALL else (self._tag.value,)
            matches = self.library.match(task, k=MOST, required_tags=tags)
        except CMBAgentError as error:
            self._say(str(error), "cmbv-error")
            return
        said = (
            plural(len(matches), "skill") + (" fits" if len(matches) == 1 else " fit")
            if matches
            else "No skill fits this task. Start a run of it with %%cmbagent."
        )
        self._list([(item.id, item.as_dict(), drawn.match_row(item.as_dict())) for item in matches], said)

    def _list(self, rows: list[tuple[str, Any, str]], said: str) -> None:
        shown = []
        for skill_id, about, html in rows:
            button = ipywidgets.Button(description=str(about["name"]), tooltip="Open the card of this skill")
            button.on_click(lambda _, skill_id=skill_id: self.open(skill_id))
            row = ipywidgets.Box([button, ipywidgets.HTML(html)])
            row.add_class("cmbv-row")
            shown.append(row)
        self._rows.children = tuple(shown)
        self._say(said)
        free_routing(*self.interactive)

    def _say(self, text: str, style: str = "cmbv-meta") -> None:
        assign(self._note, value=f'<div class="{style}">{esc(text)}</div>')

    def open(self, reference: str) -> None:
        """Open the card of a skill below the list."""
        from cmbagent_nb.notebook.skill_card import SkillCard

        try:
            self.card = SkillCard(self.library.get(reference))
        except CMBAgentError as error:
            self._say(str(error), "cmbv-error")
            return
        self._opened.children = (self.card.widget,)
        free_routing(*self.interactive)
