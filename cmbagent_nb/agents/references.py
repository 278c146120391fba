"""References to numbers in a text: resolved from the run's files, so that no number is ever made up.

``{{ data/fit.json#chi2 | .1f }}`` becomes ``[207.6](data/fit.json)``. In JSON the key may go deeper
(``#fit.values[0]``); in CSV it is ``#column[row]``. What cannot be found is listed, and the text is
given back to its writer.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

#: A file larger than this is not read for a number.
LARGEST = 50 * 2**20

_BRACES = re.compile(r"\{\{[ \t]*([^{}\n]+?)[ \t]*\}\}")
_REFERENCE = re.compile(r"(?P<path>[^#|]+?)\s*#\s*(?P<key>[^|]+?)\s*(?:\|\s*(?P<format>[^|]*?)\s*)?")
_FORMAT = re.compile(r"[-+ ]?,?_?(?:\.\d{1,2})?[deEfFgGn%]?")
_PLAIN_WORDS = re.compile(r"[\w./ |-]+")
_PART = re.compile(r"[^.\[\]]+|\[-?\d+\]")


@dataclass(frozen=True)
class Resolved:
    """A text with its references resolved."""

    markdown: str
    used: list[dict[str, Any]] = field(default_factory=list)  #: path, key and value of each
    missing: list[str] = field(default_factory=list)  #: each with the reason


class _MissingError(Exception):
    """Why a reference has no value."""


def resolve(markdown: str, folder: Path, links: Mapping[str, str] | None = None) -> Resolved:
    """Put the numbers that ``markdown`` refers to into it, each as a link to the file it is from.

    Within a formula or a link's text the number stands without a link. Code is left as it is.

    Parameters
    ----------
    folder
        Where the paths start; files outside of it are never read.
    links
        Where a link goes that does not go to the path itself.
    """
    used: list[dict[str, Any]] = []
    missing: list[str] = []
    files: dict[str, Any] = {}

    def put(match: re.Match[str]) -> str:
        inner = match[1]
        reference = _REFERENCE.fullmatch(inner)
        if reference is None:
            if _PLAIN_WORDS.fullmatch(inner) and not _plain_place(match.string, match.start(), match.end()):
                missing.append(f"{inner} (a reference has the form PATH#KEY)")
            return match[0]
        path, key = reference["path"].strip(), reference["key"]
        try:
            value = _look_up(path, key, folder, files)
            text = _formatted(value, reference["format"] or "")
        except _MissingError as reason:
            missing.append(f"{path}#{key} ({reason})")
            return match[0]
        used.append({"path": path, "key": key, "value": value})
        if _plain_place(match.string, match.start(), match.end()):
            return text
        target = (links or {}).get(PurePosixPath(path).as_posix(), path)
        return f"[{_escaped(text)}]({quote(target)})"

    parts = [text if is_code else _BRACES.sub(put, text) for text, is_code in _split_code(markdown)]
    return Resolved("".join(parts), used, missing)


def _split_code(markdown: str) -> Iterator[tuple[str, bool]]:
    """Yield the parts of a text, and whether each is a fenced block of code."""
    lines: list[str] = []
    fence, block = "", False
    for line in markdown.splitlines(keepends=True):
        mark = line.lstrip()[:3]
        if not block and mark in ("```", "~~~"):
            yield "".join(lines), False
            fence, block, lines = mark, True, [line]
        elif block and mark == fence and not line.strip().strip(fence[0]):
            yield "".join([*lines, line]), True
            block, lines = False, []
        else:
            lines.append(line)
    yield "".join(lines), block


def _plain_place(text: str, start: int, end: int) -> bool:
    """Tell whether a link cannot stand here: within a formula, inline code or the text of another link."""
    first = text.rfind("\n\n", 0, start) + 1
    last = text.find("\n\n", end)
    before, after = text[first:start], text[end : last if last >= 0 else len(text)]
    line_before = before.rpartition("\n")[2]
    line_after = after.partition("\n")[0]
    for mark, left, right in (("$", before, after), ("`", line_before, line_after)):
        clean = left.replace("\\" + mark, "").replace(mark * 2, mark)
        if clean.count(mark) % 2 and mark in right:
            return True
    return line_before.rfind("[") > line_before.rfind("]") and "](" in line_after


def _look_up(path: str, key: str, folder: Path, files: dict[str, Any]) -> Any:
    if path not in files:
        files[path] = _read(path, folder)
    content = files[path]
    value = _cell(content, key) if isinstance(content, _Table) else _step_into(content, key)
    if isinstance(value, dict | list):
        raise _MissingError("it is not a single value")
    return value


@dataclass(frozen=True)
class _Table:
    rows: list[dict[str, str]]


def _read(path: str, folder: Path) -> Any:
    root = folder.resolve()
    file = (root / path).resolve()
    if not file.is_relative_to(root):
        raise _MissingError("it is outside of the run's folder")
    if not file.is_file():
        raise _MissingError("there is no such file")
    if file.stat().st_size > LARGEST:
        raise _MissingError("the file is too large to read a number from")
    try:
        if file.suffix.lower() == ".csv":
            with file.open(encoding="utf-8-sig", newline="") as stream:
                return _Table(list(csv.DictReader(stream)))
        if file.suffix.lower() == ".json":
            return json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError, csv.Error):
        raise _MissingError("the file cannot be read") from None
    raise _MissingError("only JSON and CSV files can be referred to")


def _step_into(value: Any, key: str) -> Any:
    """Go into nested JSON; a key that has dots in it is found, too."""
    if isinstance(value, dict) and key in value:
        return value[key]
    match = _PART.match(key)
    if match is None:
        raise _MissingError("there is no such key")
    part, rest = match[0], key[match.end() :].removeprefix(".")
    if part.startswith("["):
        index = int(part[1:-1])
        if not isinstance(value, list) or not -len(value) <= index < len(value):
            raise _MissingError("there is no such item")
        found = value[index]
    else:
        if not isinstance(value, dict) or part not in value:
            known = f"; the keys are {', '.join(map(str, list(value)[:12]))}" if isinstance(value, dict) else ""
            raise _MissingError(f"there is no such key{known}")
        found = value[part]
    return _step_into(found, rest) if rest else found


def _cell(table: _Table, key: str) -> Any:
    match = re.fullmatch(r"(.+)\[(-?\d+)\]", key)
    if match is None:
        raise _MissingError("in a CSV file the form is column[row]")
    column, row = match[1].strip(), int(match[2])
    if not -len(table.rows) <= row < len(table.rows):
        raise _MissingError(f"the file has {len(table.rows)} rows")
    record = {str(name).strip(): text for name, text in table.rows[row].items()}
    if record.get(column) is None:
        raise _MissingError(f"there is no such column; the columns are {', '.join(list(record)[:12])}")
    text = record[column].strip()
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _formatted(value: Any, form: str) -> str:
    if not form:
        if isinstance(value, float):
            return f"{value:.6g}"
        return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    if not _FORMAT.fullmatch(form):
        raise _MissingError(f"{form!r} is not a format for a number")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _MissingError(f"it is not a number, so the format {form!r} does not fit")
    if form.endswith("d") and isinstance(value, float) and value.is_integer():
        value = int(value)
    try:
        return format(value, form)
    except ValueError:
        raise _MissingError(f"the format {form!r} does not fit {value!r}") from None


def _escaped(text: str) -> str:
    return re.sub(r"([\[\]\\`*_<>|])", r"\\\1", text)
