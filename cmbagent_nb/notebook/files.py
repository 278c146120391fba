"""Shows the files of a run with a preview of each: pictures, tables, texts; bounded, and escaped."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ipywidgets

from cmbagent_nb.notebook.comms import assign
from cmbagent_nb.redaction import scrub
from cmbagent_nb.render.gate import code_html
from cmbagent_nb.render.markdown import markdown_html
from cmbagent_nb.render.text import cut, esc, plural, size

_HEAD = 16_000
_ROWS = 8
_COLUMNS = 12
_PICTURE = 400_000
#: The largest picture that is made smaller: bytes in its file, and pixels.
_LARGEST_PICTURE = 64 * 2**20
_PIXELS = 40_000_000
_MOST = 30
_PICTURES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".svg": "image/svg+xml",
}
_TEXTS = {".py", ".txt", ".log", ".yaml", ".yml", ".toml", ".dat", ".cfg", ".ini", ".ipynb", ".tex", ".jsonl"}


class FilesPanel:
    """A list of files; one widget a file, so that a file that is open stays open when others come."""

    def __init__(self) -> None:
        self.widget = ipywidgets.VBox()
        self.widget.add_class("cmbv-files")
        self._note = ipywidgets.HTML()
        self._rows: dict[tuple[str, str, bool], Any] = {}

    def update(self, files: Sequence[Mapping[str, Any]], total: int, folder: Path | None) -> None:
        """Show the newest version of each file."""
        newest: dict[str, Mapping[str, Any]] = {}
        for item in files:
            newest.setdefault(str(item.get("file_path")), item)
        shown = sorted(newest.values(), key=lambda item: (_rank(item), -(item.get("created_at") or 0.0)))[:_MOST]
        rows: dict[tuple[str, str, bool], Any] = {}
        for item in shown:
            key = (str(item.get("file_path")), str(item.get("content_hash")), bool(item.get("missing")))
            rows[key] = self._rows.get(key) or ipywidgets.HTML(_row(item, folder))
        note = "No files yet." if not shown else ""
        if len(newest) > len(shown):
            note = f"{len(newest) - len(shown)} more of {plural(total, 'file')}: run.files()"
        assign(self._note, value=f'<div class="cmbv-meta">{esc(note)}</div>' if note else "")
        if list(rows) != list(self._rows) or not self.widget.children:
            self._rows = rows
            self.widget.children = (*rows.values(), self._note)


def _rank(item: Mapping[str, Any]) -> int:
    """Pictures and reports first: they are what people look for."""
    return {"plot": 0, "report": 1, "data": 2, "code": 3}.get(str(item.get("file_type")), 4)


def _row(item: Mapping[str, Any], folder: Path | None) -> str:
    path = str(item.get("file_path"))
    version = f" · version {item['version']}" if (item.get("version") or 1) > 1 else ""
    version += " · missing" if item.get("missing") else ""
    made = " · ".join(str(part) for part in (item.get("node_id"), item.get("created_by_agent")) if part)
    shown = "open" if item.get("file_type") == "plot" else ""
    return (
        f"<details {shown}><summary><code>{esc(path)}</code> "
        f'<span class="cmbv-meta">{size(item.get("size_bytes"))} · {esc(made)}{esc(version)}</span></summary>'
        f"{preview(folder / path, folder) if folder else ''}</details>"
    )


def preview(path: Path, folder: Path | None = None) -> str:
    """Show the beginning of a file, or the whole of a picture, as HTML in which every text is escaped."""
    kind = path.suffix.lower()
    try:
        if kind in _PICTURES:
            return _picture(path, _PICTURES[kind])
        with path.open("rb") as file:
            head = file.read(_HEAD)
        whole = len(head) < _HEAD
        text = scrub(head.decode("utf-8"))
    except UnicodeDecodeError as error:
        if kind not in _TEXTS and error.start < _HEAD - 4:
            return '<div class="cmbv-meta">No preview of this type of file.</div>'
        text = scrub(head.decode("utf-8", "replace"))
    except OSError:
        return '<div class="cmbv-meta">The file is not there any more.</div>'
    if kind in {".csv", ".tsv"}:
        return _table(text, "\t" if kind == ".tsv" else ",", whole)
    if kind == ".md":
        return f'<div class="cmbv-md">{markdown_html(text, folder)}</div>'
    if kind == ".json" and whole:
        try:
            text = json.dumps(json.loads(text), indent=1, ensure_ascii=False)
        except (ValueError, RecursionError):
            whole = False
    if kind == ".py":
        return code_html(text, path.name, copy=True) + _left_out(path, len(text), whole)
    return f"<pre>{esc(text)}</pre>{_left_out(path, len(text), whole)}"


def _left_out(path: Path, shown: int, whole: bool) -> str:
    """Say how much of a file is shown, where that is not all."""
    if whole:
        return ""
    return f'<div class="cmbv-meta">The first {shown:,} characters of {size(path.stat().st_size)}.</div>'


def _picture(path: Path, kind: str) -> str:
    """Show a picture, made smaller if need be; its size and its header are looked at before it is read."""
    length = path.stat().st_size
    if length > _PICTURE and kind != "image/svg+xml":
        data = _smaller(path) if length <= _LARGEST_PICTURE else None
        kind = "image/png"
    else:
        data = path.read_bytes() if length <= 4 * _PICTURE else None
    if data is None or len(data) > 4 * _PICTURE:
        return f'<div class="cmbv-meta">Too large to be shown here ({size(length)}).</div>'
    return f'<img alt="{esc(path.name)}" src="data:{kind};base64,{base64.b64encode(data).decode()}">'


def _smaller(path: Path) -> bytes | None:
    """Return a picture as a smaller PNG; ``None`` when it cannot be read or has too many pixels to be read here."""
    import warnings

    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                if image.width * image.height > _PIXELS:
                    return None
                image.thumbnail((1000, 800))
                out = io.BytesIO()
                image.convert("RGBA" if "A" in image.getbands() else "RGB").save(out, "PNG")
                return out.getvalue()
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    except Image.DecompressionBombWarning:
        return None


def _table(text: str, separator: str, whole: bool) -> str:
    lines = text.splitlines()
    rows = list(csv.reader(lines[: _ROWS + 1], delimiter=separator))
    if not rows:
        return '<div class="cmbv-meta">Empty.</div>'
    head = "".join(f"<th>{esc(cut(cell, 40))}</th>" for cell in rows[0][:_COLUMNS])
    body = "".join(
        f"<tr>{''.join(f'<td>{esc(cut(cell, 40))}</td>' for cell in row[:_COLUMNS])}</tr>" for row in rows[1:]
    )
    more = f"{len(lines) - 1} rows" if whole else f"the first {min(_ROWS, len(lines) - 1)} rows"
    return (
        f'<table class="cmbv-t"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        f'<div class="cmbv-meta">{more}</div>'
    )
