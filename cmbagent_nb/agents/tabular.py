"""Find out how a table that is text is to be read: encoding, separator, decimal sign, names, comments.

Only the beginning of a file is looked at. What cannot be told for certain is listed as a doubt, and whoever reads the
answer sees the lines themselves.
"""

from __future__ import annotations

import csv
import io
import re
import warnings
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

#: Bytes of a file that are looked at, and the longest line that is taken for one of a table.
SAMPLE = 16 * 2**20
LONGEST_LINE = 2**20
#: Lines by which the form is found.
LINES = 400

_SEPARATORS = ("\t", ";", ",", "|", " ")
_BOMS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_PLAIN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eEdD][+-]?\d+)?|[+-]?(nan|inf|infinity)", re.IGNORECASE)
_COMMA = re.compile(r"[+-]?\d+,\d+([eE][+-]?\d+)?")
_DOT_GROUPS = re.compile(r"[+-]?\d{1,3}(\.\d{3})+(,\d+)?")
_COMMA_GROUPS = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?")
_SPACE_GROUPS = re.compile("[+-]?\\d{1,3}([ '\u00a0\u202f]\\d{3})+([.,]\\d+)?")
_GAPS = frozenset({"", "-", "--", "...", "na", "n/a", "null", "none"})


@dataclass(frozen=True)
class Form:
    """Way in which a table is to be read."""

    text: str  #: the sample, without comments
    encoding: str
    separator: str = ","
    decimal: str = "."
    thousands: str | None = None
    names: tuple[str, ...] | None = None  #: from a comment; None: from the first line, if ``named``
    named: bool = True
    comments: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    whole: bool = True  #: whether the sample is the whole file
    fields: int = 1
    share: float = 1.0  #: of the lines, those that have so many fields
    changes: tuple[str, ...] = field(default=())

    def read(self, rows: int) -> Any:
        """Return the frame that the sample holds, of at most so many rows."""
        import pandas as pd

        options: dict[str, Any] = {"sep": self.separator, "engine": "c", "low_memory": False, "skipinitialspace": True}
        if self.separator == " ":
            options["sep"] = r"\s+"
            del options["skipinitialspace"]
        if self.names is not None:
            options |= {"names": list(self.names), "header": None}
        elif not self.named:
            options["header"] = None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pd.errors.ParserWarning)  # lines of another length are among the doubts
            return pd.read_csv(
                io.StringIO(self.text), decimal=self.decimal, thousands=self.thousands, nrows=rows, on_bad_lines="skip",
                index_col=False, **options,
            )  # fmt: skip

    def told(self) -> str:
        """Say the form in words."""
        how = {",": "separated by commas", " ": "columns separated by white space", "\t": "separated by '\\t'"}
        parts = [how.get(self.separator, f"separated by {self.separator!r}")]
        parts += ["decimal comma"] if self.decimal == "," else []
        parts += [f"thousands separated by {self.thousands!r}"] if self.thousands else []
        parts += [f"encoding {self.encoding}"] if self.encoding not in ("utf-8", "ascii") else []
        parts += ["names from the comment above"] if self.names is not None else []
        parts += ["without a line of names"] if self.names is None and not self.named else []
        return ", ".join(parts)


def decode(path: Path, limit: int = SAMPLE) -> tuple[str, str, bool]:
    """Return the beginning of a text file, its encoding, and whether that is the whole of it."""
    with opened(path) as file:
        data = file.read(limit + 1)
    whole, data = len(data) <= limit, data[:limit]
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return data.decode(encoding, errors="replace"), encoding, whole
    try:
        return data.decode("utf-8"), "utf-8", whole
    except UnicodeDecodeError as error:
        if not whole and error.start > len(data) - 4:
            return data[: error.start].decode("utf-8"), "utf-8", False
    return data.decode("cp1252", errors="replace"), "cp1252 (a guess: it is not UTF-8)", whole


def opened(path: Path) -> Any:
    """Open a file for its bytes, decompressed."""
    import bz2
    import gzip
    import lzma

    openers: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
    return openers.get(path.suffix.lower(), open)(path, mode="rb")


def form_of(path: Path) -> Form | None:
    """Return how a table is to be read; ``None`` when the file is no table of lines."""
    text, encoding, whole = decode(path)
    if not whole:
        text = text[: text.rfind("\n") + 1]
    lines = text.splitlines()
    if not lines or "\0" in text[:4096] or max(map(len, lines[:LINES])) > LONGEST_LINE:
        return None
    comments, body = _without_comments(lines)
    if not body:
        return None
    form = _separated(Form("\n".join(body) + "\n", encoding, comments=tuple(comments), whole=whole), body[:LINES])
    rows = _rows(body[:LINES], form.separator)
    form = _numbers(form, rows)
    return _names(form, rows, comments)


def _without_comments(lines: list[str]) -> tuple[list[str], list[str]]:
    """Part the lines that are comments from those of the table; a ``#`` within a line is text."""
    comments = [line for line in lines if line.startswith("#")]
    body = [line for line in lines if line.strip() and not line.startswith("#")]
    if not comments:  # other programs begin their comments with these, above the table only
        for mark in ("%", "!", "//"):
            count = next((place for place, line in enumerate(body) if not line.startswith(mark)), len(body))
            if count:
                return body[:count], body[count:]
    return comments, body


def _rows(lines: list[str], separator: str) -> list[list[str]]:
    if separator == " ":
        return [line.split() for line in lines]
    return [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=separator, skipinitialspace=True)]


def _separated(form: Form, lines: list[str]) -> Form:
    """Choose the separator: the same number of fields in every line, and no other separator left in a field."""
    found = []
    for separator in _SEPARATORS:
        if separator != " " and not any(separator in line for line in lines):
            continue
        try:
            rows = _rows(lines, separator)
        except csv.Error:
            continue
        counts = Counter(len(row) for row in rows)
        fields, number = max(counts.items(), key=lambda item: (item[1], item[0]))
        if fields < 2:
            continue
        cells = [cell for row in rows[1:] or rows for cell in row]
        clean = sum(_is_clean(cell, separator) for cell in cells) / max(1, len(cells))
        found.append((round(number / len(rows), 2) * clean, clean, separator, fields, number / len(rows)))
    if not found:
        return replace(form, fields=1)
    found.sort(key=lambda item: (-item[0], _SEPARATORS.index(item[2])))
    score, _, separator, fields, share = found[0]
    doubts = []
    close = [item for item in found[1:] if item[0] > 0.9 * score and item[2] != " " and separator != " "]
    if close:
        doubts.append(f"it may be separated by {close[0][2]!r} as well as by {separator!r}")
    if share < 1:
        doubts.append(f"{1 - share:.0%} of the first lines do not have {fields} fields")
    elif score < 0.8:
        doubts.append("separators are mixed: fields hold others")
    return replace(form, separator=separator, fields=fields, share=share, doubts=tuple(doubts))


def _is_clean(cell: str, separator: str) -> bool:
    """Tell whether a field holds no separator of another kind, as far as that can be told."""
    if separator != "," and (_COMMA.fullmatch(cell) or _COMMA_GROUPS.fullmatch(cell) or _DOT_GROUPS.fullmatch(cell)):
        return True
    if _SPACE_GROUPS.fullmatch(cell):
        return True
    if separator == " ":
        return "," not in cell and ";" not in cell
    others = re.escape("".join(mark for mark in ";\t|," if mark != separator))
    # In a text a mark is followed by a space; between fields it is not, or what it stands between are numbers.
    return re.search(rf"[{others}](?! )|\d\s*[{others}]\s*\d", cell) is None


def _numbers(form: Form, rows: list[list[str]]) -> Form:
    """Find the decimal sign and what separates thousands."""
    cells = [cell for row in rows[1:] or rows for cell in row]
    plain = [cell for cell in cells if _PLAIN.fullmatch(cell) and "." in cell]
    commas = [cell for cell in cells if _COMMA.fullmatch(cell)]
    dots = [cell for cell in cells if _DOT_GROUPS.fullmatch(cell)]
    groups = [cell for cell in cells if _COMMA_GROUPS.fullmatch(cell)]
    spaces = [cell for cell in cells if form.separator != " " and _SPACE_GROUPS.fullmatch(cell)]
    doubts = list(form.doubts)
    decimal, thousands = ".", None
    sure_comma = [cell for cell in commas if not _COMMA_GROUPS.fullmatch(cell)] + [cell for cell in dots if "," in cell]
    sure_groups = [cell for cell in groups if "." in cell or cell.count(",") > 1]
    real_dots = [cell for cell in plain if not _DOT_GROUPS.fullmatch(cell)]
    if sure_comma:
        decimal = ","
        if dots and not real_dots:
            thousands = "."
        if real_dots:
            doubts.append(
                f"both {sure_comma[0]!r} and {real_dots[0]!r} occur: the decimal sign is not the same throughout"
            )
    elif sure_groups or (groups and real_dots):
        thousands = ","
    elif groups:
        decimal = ","
        doubts.append(f"{groups[0]!r} may be a decimal or a number of thousands: a decimal comma is assumed")
    elif any(cell.count(".") > 1 for cell in dots) and not real_dots:
        thousands = "."
    elif dots and not real_dots and form.separator == ";":
        doubts.append(f"{dots[0]!r} may be a decimal or a number of thousands: a decimal point is assumed")
    if spaces:
        thousands = next((mark for mark in " '\u00a0\u202f" if mark in spaces[0]), thousands)
        decimal = "," if any("," in cell for cell in spaces) else decimal
    return replace(form, decimal=decimal, thousands=thousands, doubts=tuple(doubts))


def _names(form: Form, rows: list[list[str]], comments: list[str]) -> Form:
    """Tell where the names of the columns are: in the first line, in the comment above it, or nowhere."""
    first = rows[0]
    numbers = [_is_number(cell) for cell in first]
    later = [[_is_number(cell) for cell in row] for row in rows[1:20]]
    if any(numbers):
        if comments:
            above = re.sub(r"^[#%!/]+\s*", "", comments[-1])
            names = above.split() if form.separator == " " else [item.strip() for item in above.split(form.separator)]
            if form.separator != " " and len(names) != form.fields:
                names = above.split()
            if (
                len(names) == form.fields
                and len(set(names)) == len(names)
                and not any(_is_number(item) for item in names)
            ):
                return replace(form, names=tuple(names))
        return replace(form, named=False)
    if later and not any(any(row) for row in later):
        return replace(form, doubts=(*form.doubts, "all fields are texts: the first line is taken for names"))
    return form


def _is_number(cell: str) -> bool:
    return any(pattern.fullmatch(cell) for pattern in (_PLAIN, _COMMA, _DOT_GROUPS, _COMMA_GROUPS, _SPACE_GROUPS))


def is_table(form: Form) -> bool:
    """Tell whether a text is a table for certain: as many fields in nearly all lines, some of them numbers."""
    lines = form.text.split("\n", 60)[:60]
    rows = [row for row in _rows([line for line in lines if line], form.separator) if row]
    cells = [cell for row in rows[1:] or rows for cell in row]
    numbers = sum(_is_number(cell) or cell.lower() in _GAPS for cell in cells)
    if form.fields == 1:
        return bool(cells) and all(_is_number(cell) for cell in cells)
    few = 2 if form.separator == " " else 4  # words are separated by spaces, too
    return form.share > 0.9 and few * numbers >= len(cells) and (len(rows) > 2 or 2 * numbers > len(cells))
