r"""Renders text as a terminal does, and shortens it: start, end and last exception are kept.

>>> as_shown("load\n 10%|#   |\r 50%|##  |\r100%|####|\ndone\n")
'load\n100%|####|\ndone\n'
>>> fold("x: RuntimeWarning: invalid\n  y = f(x)\n" * 500)
'x: RuntimeWarning: invalid\n  y = f(x)\n[… 499 more times …]\n'
>>> shorten("\n".join(str(number) for number in range(1000)), 60)
'0\n1\n[… 3,874 characters left out …]\n997\n998\n999'
"""

from __future__ import annotations

import re

#: A control sequence, a control character, or a run of ordinary text. Links and titles (OSC) end with BEL or ST.
_TOKEN = re.compile(
    r"\x1b\[(?P<args>[0-9;:?<=>!]*)[ -/]*(?P<final>[@-~])"
    r"|\x1b\](?:[^\x07\x1b]|\x1b(?!\\))*(?:\x07|\x1b\\)?"
    r"|\x1b[ -/]*[0-~]?"
    r"|(?P<control>[\r\n\b\x07\x00\x7f])"
    r"|(?P<text>[^\x1b\r\n\b\x07\x00\x7f]+)"
)
#: What tells that a text needs to be rendered at all.
_CONTROLS = re.compile(r"[\r\b\x07\x00\x7f\x1b]")

_WARNING = re.compile(r"\bwarn(?:ing)?s?\b|Warning:", re.IGNORECASE)
_DIGITS = re.compile(r"\d+")
_START = "Traceback (most recent call last):"
_CHAINED = ("During handling of the above exception", "The above exception was the direct cause")
_FRAME = re.compile(r'^\s*[|+ ]*File ".*", line \d+')

#: Lines of a block that may be repeated.
BLOCK = 4
#: How often something is said before it is folded.
OFTEN = 3
#: Frames at both ends of a long traceback, and characters of an exception's own text, that are kept: what fits first.
KEPT = ((2, 4, 2000), (1, 3, 1000), (1, 2, 600), (0, 1, 400))


def as_shown(text: str) -> str:
    """Return what a terminal that never scrolls would show: progress bars have their last state, colours are gone."""
    if not _CONTROLS.search(text):
        return text
    rows, touched = [""], {0: False}
    row = column = 0
    for token in _TOKEN.finditer(text):
        run, control, final = token["text"], token["control"], token["final"]
        if run is not None:
            line = rows[row]
            if column == len(line):
                rows[row] = line + run
            else:
                touched[row] = True
                rows[row] = line[:column].ljust(column) + run + line[column + len(run) :]
            column += len(run)
        elif control == "\n":
            row, column = row + 1, 0
            if row == len(rows):
                rows.append("")
        elif control == "\r":
            column = 0
        elif control == "\b":
            column = max(0, column - 1)
        elif final is not None:
            row, column = _moved(rows, touched, row, column, token["args"], final)
    return "\n".join(line.rstrip(" ") if touched.get(number) else line for number, line in enumerate(rows))


def _moved(
    rows: list[str], touched: dict[int, bool], row: int, column: int, arguments: str, final: str
) -> tuple[int, int]:
    """Carry out a control sequence on the rows; return the new place."""
    first = arguments.partition(";")[0]
    count = int(first[:4]) if first.isdigit() else 0
    if final == "K":
        touched[row] = True
        line = rows[row]
        rows[row] = (line[:column], " " * min(column + 1, len(line)) + line[column + 1 :], "")[min(count, 2)]
    elif final == "P":
        rows[row] = rows[row][:column] + rows[row][column + max(1, count) :]
    elif final in "AF":
        row = max(0, row - max(1, count))
    elif final in "BE":
        row += max(1, count)
        rows.extend([""] * (row + 1 - len(rows)))
    elif final == "C":
        column += max(1, count)
    elif final == "D":
        column = max(0, column - max(1, count))
    elif final == "G":
        column = max(0, count - 1)
    return row, 0 if final in "EF" else column


def fold(text: str) -> str:
    """Say once, with their number, lines or blocks of up to four lines that come again and again in a row."""
    lines = text.splitlines(keepends=True)
    kept: list[str] = []
    place = 0
    while place < len(lines):
        size, times = _repeats(lines, place)
        kept += lines[place : place + size]
        if times >= OFTEN:
            kept.append(f"[… {times - 1:,} more times …]\n")
            place += size * times
        else:
            place += size
    return "".join(kept)


def _repeats(lines: list[str], place: int) -> tuple[int, int]:
    """Return the size of the block that is repeated at a place, and how often; 1 and 1 where none is."""
    for size in range(1, BLOCK + 1):
        block = lines[place : place + size]
        if lines[place + size : place + 2 * size] != block or not "".join(block).strip():
            continue
        times = 2
        while lines[place + times * size : place + (times + 1) * size] == block:
            times += 1
        if times >= OFTEN:
            return size, times
    return 1, 1


def fold_warnings(text: str) -> str:
    """Say a warning once that comes again between other lines, with other numbers or not."""
    lines = text.splitlines(keepends=True)
    blocks: list[tuple[str, str]] = []  # a warning's key or nothing, and its text
    for line in lines:
        if blocks and blocks[-1][0] and line[:1].isspace() and line.strip() and "\n" not in blocks[-1][1][:-1]:
            blocks[-1] = (blocks[-1][0], blocks[-1][1] + line)  # the line of code that Python shows below it
        else:
            blocks.append((_DIGITS.sub("#", line) if _WARNING.search(line) else "", line))
    counts: dict[str, int] = {}
    for key, _ in blocks:
        counts[key] = counts.get(key, 0) + 1
    said: set[str] = set()
    kept = []
    for key, block in blocks:
        if not key or counts[key] < OFTEN:
            kept.append(block)
        elif key not in said:
            said.add(key)
            kept += [block, f"[… this warning {counts[key] - 1:,} more times …]\n"]
    return "".join(kept)


def shorten(text: str, limit: int, *, head: float = 0.25) -> str:
    """Return a text of at most about ``limit`` characters: its beginning and its end, and how much was left out."""
    if len(text) <= limit:
        return text
    note = 40
    first = max(0, int((limit - note) * head))
    last = max(0, limit - note - first)
    begin, end = text[:first], text[len(text) - last :]
    if "\n" in begin:
        begin = begin[: begin.rindex("\n") + 1]
    if "\n" in end[:-1]:
        end = end[end.index("\n") + 1 :]
    left_out = len(text) - len(begin) - len(end)
    if begin and not begin.endswith("\n"):
        begin += "\n"
    return f"{begin}[… {left_out:,} characters left out …]\n{end}"


def last_traceback(text: str) -> str:
    """Return the last traceback in an error output with those it is chained to, without what was written after it."""
    lines = text.splitlines(keepends=True)
    starts = [number for number, line in enumerate(lines) if line.lstrip(" |+").startswith(_STARTS)]
    if not starts:
        return ""
    first = starts[-1]
    while (earlier := _before(lines, starts, first)) is not None:
        first = earlier
    return "".join(lines[first : _end(lines, starts[-1])])


_STARTS = (_START, f"Exception Group {_START}")


def _before(lines: list[str], starts: list[int], start: int) -> int | None:
    """Return where the traceback begins that the one at ``start`` is chained to, or that it is a part of."""
    if lines[start][:1] in " |+":  # of an exception group: its own start has no bar
        return next((number for number in reversed(starts) if number < start), None)
    above = next((number for number in range(start - 1, -1, -1) if lines[number].strip()), None)
    if above is None or not lines[above].startswith(_CHAINED):
        return None
    return next((number for number in reversed(starts) if number < above and lines[number][:1] not in "|"), None)


def _end(lines: list[str], start: int) -> int:
    """Return the line after a traceback: frames are indented, then comes the exception."""
    number = start + 1
    while number < len(lines) and (lines[number][:1] in " |+" or lines[number].strip() in ("", "^")):
        number += 1
    return len(lines) if number >= len(lines) else _end_of_message(lines, number)


def _end_of_message(lines: list[str], number: int) -> int:
    """Return where the message of an exception ends: nothing tells, so all is taken but what is a progress bar."""
    end = number + 1
    while end < len(lines) and not re.search(r"\d+%\||it/s\]", lines[end]):
        end += 1
    return end


def trim_traceback(text: str, limit: int) -> str:
    """Leave out frames in the middle of a traceback that is too long; every exception of a chain keeps its own text."""
    if len(text) <= limit:
        return text
    parts: list[list[str]] = []  # frames with the lines that belong to them, and single other lines
    for line in text.splitlines(keepends=True):
        if parts and _FRAME.match(parts[-1][0]) and line[:1] in " |" and not _FRAME.match(line) and _START not in line:
            parts[-1].append(line)
        else:
            parts.append([line])
    for outer, inner, longest in KEPT:
        shown = _trimmed(parts, outer, inner, longest)
        if len(shown) <= limit:
            break
    return shorten(shown, limit, head=0.3)


def _trimmed(parts: list[list[str]], outer: int, inner: int, longest: int) -> str:
    kept: list[str] = []
    frames: list[list[str]] = []
    for part in [*parts, [""]]:
        if part[0] and _FRAME.match(part[0]):
            frames.append(part)
            continue
        if len(frames) > outer + inner + 1:
            left_out = len(frames) - outer - inner
            frames[outer:-inner] = [[f"  [… {left_out} frames left out …]\n"]]
        kept += ["".join(frame) for frame in frames]
        frames = []
        kept.append(shorten(part[0], longest, head=0.5))
    return "".join(kept)


def report(stdout: str, stderr: str, traceback: str, limit: int) -> str:
    """Tell what code printed and how it failed, within about ``limit`` characters.

    The exception comes first in getting room, then standard output and standard error share what is left.
    """
    traceback = trim_traceback(as_shown(traceback).strip("\n"), limit * 3 // 4)
    stderr = as_shown(stderr)
    if traceback:
        own = last_traceback(stderr).strip("\n")
        if own:
            stderr = stderr.replace(own, "", 1)
    stdout, stderr = fold(as_shown(stdout)).strip("\n"), fold(fold_warnings(stderr)).strip("\n")
    room = max(limit // 4, limit - len(traceback))
    half = room // 2
    room_out = max(half, room - len(stderr))
    room_err = max(half, room - len(stdout))
    parts = [
        ("Standard output", shorten(stdout, room_out)),
        ("Standard error", shorten(stderr, room_err)),
        ("Exception", traceback),
    ]
    shown = [(name, text) for name, text in parts if text.strip()]
    if len(shown) == 1 and shown[0][0] == "Standard output":
        return shown[0][1]
    return "\n".join(f"[{name}]\n{text}" for name, text in shown)
