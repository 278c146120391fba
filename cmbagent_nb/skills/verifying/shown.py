"""Results that a notebook shows: figures, displayed values and tables, and what its cells print.

They count like files: each is compared with what the same cell showed before, and each must be there again.

| shown | compared by |
|---|---|
| PNG, JPEG | pixels |
| SVG | the drawing, but for dates and ids |
| plotly, vega, JSON | structure and numbers |
| HTML | text, but for ids; numbers as numbers |
| LaTeX, Markdown, plain text | text; numbers as numbers, without addresses in memory |
| what is printed | line by line, but for durations, speeds, dates |

Whether something that is shown is a *result* is decided here, too: a figure and a table are; a text is where it holds a
number that the code computed. A bare ``done``, the echo of a parameter or the address of an object is none.
"""

from __future__ import annotations

import base64
import json
import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.redaction import scrub
from cmbagent_nb.skills.verifying import by_text, by_values
from cmbagent_nb.skills.verifying.compare import Comparison
from cmbagent_nb.skills.verifying.computed import Computed
from cmbagent_nb.skills.verifying.look import Different, Look

if TYPE_CHECKING:
    from nbformat import NotebookNode

PRINTED = "printed"
#: Stands for all cells together: what a run's steps printed is kept as one text.
ALL = ""
_PICTURES = {"image/png": ".png", "image/jpeg": ".jpg", "image/gif": ".gif"}
_TEXTS = ("text/html", "text/latex", "text/markdown", "text/plain")
#: Representations without a content of their own: code that draws in the browser, a live widget, a loader's logo.
_EMPTY = frozenset(
    {"application/javascript", "application/vnd.jupyter.widget-view+json", "application/vnd.bokehjs_load.v0+json",
     "application/vnd.holoviews_load.v0+json"}
)  # fmt: skip
_OBJECT = re.compile(r"<[^<>\n]* at 0x[0-9a-fA-F]+[^<>\n]*>|<[A-Za-z_][\w.]*:?[^<>\n=]*>")
_NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d[\d,_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|\b(?:nan|inf)\b")
#: Text/plain reprs of what drawing calls return: the figure is the result, not these.
_DRAWN = re.compile(
    r"^\s*[\[(]?\s*(<|Text\(|Figure\(|\(array\(\[|Axes\(|None\s*$|array\(\[?<|Line2D|PathCollection|BarContainer)"
)


@dataclass(frozen=True)
class Shown:
    """One result that a cell shows: its best representation."""

    #: The cell's id, and how it is named to a reader.
    cell: str
    label: str
    #: Which of its cell's results of this kind it is.
    number: int
    mime: str  #: a MIME type, or ``printed``
    content: Any
    #: Whether the code computed something that stands in it.
    is_result: bool = True

    @property
    def name(self) -> str:
        """The name that a report gives it."""
        what = "printed text" if self.mime == PRINTED else _kind(self.mime)
        return f"{self.label}: {what}" + (f" {self.number}" if self.number > 1 else "")

    def as_dict(self) -> dict[str, Any]:
        """Return it as it is kept beside the skill."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Shown:
        """Read it back."""
        return cls(**{name: value[name] for name in cls.__dataclass_fields__})


def _kind(mime: str) -> str:
    if mime in _PICTURES or mime == "image/svg+xml" or "plotly" in mime or "vega" in mime:
        return "figure"
    return "table" if mime == "text/html" else "value"


def collect(notebook: NotebookNode) -> list[Shown]:
    """Return what the cells of an executed notebook show, in order."""
    cells = code_cells(notebook)
    computed = Computed(cell.source for _, cell in cells)
    return [item for label, cell in cells for item in _of_cell(label, cell, computed)]


def code_cells(notebook: NotebookNode) -> list[tuple[str, Any]]:
    """Return the cells with code, each with the name that a reader knows it by."""
    cells = [
        cell
        for cell in notebook.cells
        if cell.cell_type == "code"
        and cell.source.strip()
        and not {"injected-parameters", "setup"} & set(cell.metadata.get("tags", []))
    ]
    nodes = [(cell.metadata.get("cmbagent_nb") or {}).get("node_id") for cell in cells]
    return [
        (str(node or f"cell {number}"), cell) for number, (node, cell) in enumerate(zip(nodes, cells, strict=True), 1)
    ]


def _of_cell(label: str, cell: Any, computed: Computed) -> list[Shown]:
    found: list[Shown] = []
    printed = ""
    for item in cell.outputs:
        if item.output_type == "stream":
            printed += _joined(item.text) if item.name == "stdout" else ""
        elif item.output_type in ("execute_result", "display_data"):
            mime, content = _best(item.data)
            content = scrub(content) if isinstance(content, str) else content
            if mime:
                number = 1 + sum(_kind(other.mime) == _kind(mime) for other in found)
                result = _is_result(mime, content) and (mime != "text/plain" or computed.shows(cell.source))
                found.append(Shown(str(cell.get("id", label)), label, number, mime, content, result))
    if printed.strip():
        result = has_number(printed) and computed.prints(cell.source)
        found.append(Shown(str(cell.get("id", label)), label, 1, PRINTED, scrub(printed), result))
    return found


def printed_by(steps: Iterable[tuple[str, str, str]]) -> list[Shown]:
    """Return what the steps of a run printed, as one result; each is its node, its code, and what it printed."""
    known = list(steps)
    text = "".join(printed for _, _, printed in known)
    if not text.strip():
        return []
    computed = Computed(code for _, code, _ in known)
    result = any(has_number(printed) and computed.prints(code) for _, code, printed in known)
    return [Shown(ALL, "the steps", 1, PRINTED, text, result)]


def all_printed(found: Iterable[Shown]) -> str:
    """Return what all cells printed."""
    return "".join(item.content for item in found if item.mime == PRINTED)


def has_number(text: str) -> bool:
    """Tell whether a number stands in a text, outside of the names and addresses of objects."""
    return _NUMBER.search(_OBJECT.sub(" ", text)) is not None


def _joined(text: Any) -> str:
    return "".join(text) if isinstance(text, list) else str(text)


def _best(data: Mapping[str, Any]) -> tuple[str, Any]:
    """Return the representation of a result that says most, with its MIME type; none for what has no content."""
    structured = [name for name in data if name.endswith("+json") or name == "application/json"]
    order = [*structured, "image/svg+xml", *_PICTURES, "application/pdf", *_TEXTS]
    for mime in order:
        if mime in data and mime not in _EMPTY:
            content = data[mime]
            return mime, content if mime in structured and not isinstance(content, str) else _joined(content)
    if _EMPTY & data.keys():
        return "", None
    return next(
        ((mime, _joined(content)) for mime, content in data.items() if isinstance(content, (str, list))), ("", "")
    )


def _is_result(mime: str, content: Any) -> bool:
    """Tell whether what is displayed is a figure, a table, or holds a number."""
    if mime in _TEXTS:
        text = str(content)
        if mime == "text/html":
            visible = re.sub(r"(?s)<(script|style)\b.*?</\1>|<[^>]+>", " ", text)
            return "<table" in text or has_number(visible) or "<img" in text or "<svg" in text
        return has_number(text) and not (mime == "text/plain" and _DRAWN.match(text))
    return True


# ---- comparing


def compare_all(old: Iterable[Shown], new: Iterable[Shown], look: Look) -> list[Comparison]:
    """Compare what cells showed with what they show now: each result must be there again, and no other."""
    before, now = list(old), list(new)
    if any(item.cell == ALL for item in before):
        text = all_printed(now)
        now = [Shown(ALL, "the steps", 1, PRINTED, text)] if text.strip() else []
    there = {(item.cell, _group(item), item.number): item for item in now}
    found = []
    for item in before:
        other = there.pop((item.cell, _group(item), item.number), None)
        found.append(_compared(item, other, look))
    for item in there.values():
        found.append(Comparison(item.name, False, _how(item), "it was not shown before", counts=item.is_result))
    return found


def _group(item: Shown) -> str:
    return PRINTED if item.mime == PRINTED else _kind(item.mime)


def _how(item: Shown) -> str:
    if item.mime in _PICTURES:
        return "decoded pixels"
    return "drawing" if item.mime == "image/svg+xml" else "text" if item.mime in (*_TEXTS, PRINTED) else "numbers"


def _compared(old: Shown, new: Shown | None, look: Look) -> Comparison:
    how = _how(old)
    if new is None:
        return Comparison(old.name, False, how, "it is not shown any more", counts=old.is_result)
    own = Look(look.folders, look.asks_clock, look.exact)
    try:
        if old.mime != new.mime:
            raise Different(f"{old.mime} became {new.mime}")
        if old.content != new.content:
            _contents(old, new, own)
    except Different as finding:
        return Comparison(old.name, False, how, str(finding), None, tuple(own.skipped), counts=old.is_result)
    except Exception as error:  # a damaged picture, or JSON that is none: what differs and cannot be read is different
        detail = f"it cannot be read as {how} ({type(error).__name__}: {error})"
        return Comparison(old.name, False, how, detail, counts=old.is_result)
    return Comparison(old.name, True, how, "", own.largest, tuple(own.skipped), counts=old.is_result)


def _contents(old: Shown, new: Shown, look: Look) -> None:
    if old.mime in _PICTURES:
        with tempfile.TemporaryDirectory(prefix="cmbagent-compare-") as folder:
            places = [Path(folder) / f"{name}{_PICTURES[old.mime]}" for name in ("old", "new")]
            for place, item in zip(places, (old, new), strict=True):
                place.write_bytes(base64.b64decode(item.content))
            by_text.pictures(places[0], places[1], look)
    elif old.mime == "image/svg+xml":
        by_text.svg(old.content, new.content, look)
    elif old.mime == "text/html":
        by_text.html(old.content, new.content, look)
    elif old.mime in (*_TEXTS, PRINTED) or (isinstance(old.content, str) and isinstance(new.content, str)):
        by_text.lines("line", old.content, new.content, look)
    else:
        by_values.values("", old.content, new.content, look)


# ---- keeping


def store(found: Iterable[Shown], place: Path, folders: Iterable[str] = ()) -> None:
    """Write what was shown beside a skill, with the folders where it was made."""
    value = {"format": 1, "shown": [item.as_dict() for item in found], "folders": list(folders)}
    place.write_text(json.dumps(value, ensure_ascii=False) + "\n", encoding="utf-8")


def load(place: Path) -> tuple[list[Shown], list[str]]:
    """Read what was kept; nothing where there is none, or where it is damaged."""
    try:
        value = json.loads(place.read_text(encoding="utf-8"))
        found = [Shown.from_dict(item) for item in value["shown"]]
        texts = all(isinstance(text, str) for item in found for text in (item.cell, item.label, item.mime))
        return (found if texts else []), [str(item) for item in value["folders"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return [], []
