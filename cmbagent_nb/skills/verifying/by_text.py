"""Compares files that are texts, drawings and archives: what only says when or where they were made is left out."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from cmbagent_nb.skills.verifying.look import PIXEL_LEVELS, Different, Look, NoComparison, short

#: How large the content of an archive or a compressed file may be to be looked into.
_LARGEST = 2 * 2**30
#: Share of a picture's pixels that rounding may change.
_FEW_PIXELS = 0.01


def text_files(old: Path, new: Path, look: Look) -> None:
    """Compare two texts line by line."""
    first, second = (path.read_text(encoding="utf-8", errors="surrogateescape") for path in (old, new))
    lines("line", first, second, look)


def lines(what: str, first: str, second: str, look: Look) -> None:
    """Compare two texts line by line; raises :class:`Different` with the first line that is not the same."""
    before, now = first.splitlines(), second.splitlines()
    rounded: set[int] | None = None
    for number, (line, other) in enumerate(zip(before, now, strict=False), start=1):
        if line != other and not look.same_line(f"{what} {number}", line, other):
            rounded = look.rounded_lines(before, now) if rounded is None else rounded
            if number in rounded:
                continue
            raise Different(f"{what} {number}: {short(look.text(line))} became {short(look.text(other))}")
    if len(before) != len(now):
        raise Different(f"{len(before)} lines became {len(now)}")


def html_files(old: Path, new: Path, look: Look) -> None:
    """Compare two HTML files, but for the ids of their elements."""
    first, second = (path.read_text(encoding="utf-8", errors="surrogateescape") for path in (old, new))
    html(first, second, look)


def html(old: str, new: str, look: Look) -> None:
    """Compare two HTML texts, but for the ids of their elements."""
    lines("line", _with_plain_ids(old), _with_plain_ids(new), look)


def _with_plain_ids(text: str) -> str:
    """Return a text of markup with its ids numbered in their order, wherever they stand."""
    ids: dict[str, str] = {}
    for found in re.finditer(r"""\bid=(["'])([^"']{3,200})\1""", text):
        ids.setdefault(found.group(2), f"id{len(ids)}")
    if not ids:
        return text
    named = re.compile(
        "|".join(rf"(?<![\w-]){re.escape(name)}(?![\w-])" for name in sorted(ids, key=len, reverse=True))
    )
    return named.sub(lambda found: ids[found.group()], text)


def notebooks(old: Path, new: Path, look: Look) -> None:
    """Compare two notebooks: sources and what the cells show."""
    from cmbagent_nb.skills.notebook import read_notebook
    from cmbagent_nb.skills.verifying import shown

    books = [read_notebook(path.read_text(encoding="utf-8")) for path in (old, new)]
    first, second = ("\n".join(cell.source for cell in book.cells) for book in books)
    lines("line", first, second, look)
    for item in shown.compare_all(shown.collect(books[0]), shown.collect(books[1]), look):
        if not item.equal:
            raise Different(f"{item.path}: {item.detail}")


# ---- drawings


def drawings(old: Path, new: Path, look: Look) -> None:
    """Compare two drawings (SVG, PDF, PostScript) but for dates and made-up ids."""
    first, second = (_drawing(path.read_bytes(), path.suffix.lower(), look) for path in (old, new))
    if first != second:
        raise Different("the drawing differs")


def svg(old: str, new: str, look: Look) -> None:
    """Compare two drawings that are texts."""
    if _drawing(old.encode(), ".svg", look) != _drawing(new.encode(), ".svg", look):
        raise Different("the drawing differs")


def _drawing(content: bytes, suffix: str, look: Look) -> bytes:
    if suffix == ".pdf":
        dates = rb"/(CreationDate|ModDate)\s*(\([^)]*\)|<[0-9A-Fa-f]*>)|/ID\s*\[[^\]]*\]|startxref\s+\d+"
        content = re.sub(rb"<xmp:(\w*Date)>[^<]*</xmp:\1>|<xmpMM:(\w+ID)>[^<]*</xmpMM:\2>", b"", content)
        # offsets in the table of references move with a date of another length
        return re.sub(rb"\d{10} \d{5} [nf]", b"", re.sub(dates, b"", content))
    text = look.text(content.decode("latin-1" if suffix in (".ps", ".eps") else "utf-8", "replace"))
    if suffix in (".ps", ".eps"):
        return re.sub(r"(?m)^%%(CreationDate|Title|For):.*$", "", text).encode()
    text = re.sub(r"<dc:date>.*?</dc:date>", "", text, flags=re.DOTALL)
    ids: dict[str, str] = {}
    for name in re.findall(r'\bid="([^"]+)"', text):
        ids.setdefault(name, f"id{len(ids)}")
    named = re.sub(r'\bid="([^"]+)"', lambda found: f'id="{ids[found.group(1)]}"', text)
    return re.sub(
        r'(#)([^")\s]+)(?=["\)])', lambda found: found.group(1) + ids.get(found.group(2), found.group(2)), named
    ).encode()


# ---- pictures


def pictures(old: Path, new: Path, look: Look) -> None:
    """Compare two pictures by their pixels, all frames of them."""
    import numpy as np
    from PIL import Image

    with Image.open(old) as first, Image.open(new) as second:
        if first.size != second.size:
            raise Different(f"{first.size[0]} × {first.size[1]} pixels became {second.size[0]} × {second.size[1]}")
        frames = getattr(first, "n_frames", 1)
        if frames != getattr(second, "n_frames", 1):
            raise Different("the number of frames differs")
        for frame in range(frames):
            first.seek(frame)
            second.seek(frame)
            wide = first.mode == second.mode and (first.mode in ("I", "F") or first.mode.startswith("I;"))
            pixels, others = (np.asarray(item if wide else item.convert("RGBA")) for item in (first, second))
            _pixels(pixels, others, look, exact=look.exact or wide)


def _pixels(pixels: object, others: object, look: Look, *, exact: bool) -> None:
    import numpy as np

    old, new = np.asarray(pixels), np.asarray(others)
    if np.array_equal(old, new):
        return
    changed = old != new
    changed = changed.any(axis=-1) if changed.ndim == 3 else changed
    few = changed.sum() <= max(1, _FEW_PIXELS * changed.size)
    if not exact and few and int(np.abs(old.astype(int) - new.astype(int)).max()) <= PIXEL_LEVELS:
        look.skip(f"{int(changed.sum())} pixels that differ by rounding")
        return
    raise Different(f"{int(changed.sum())} of {changed.size} pixels differ")


def films(old: Path, new: Path, look: Look) -> None:
    """Compare two MP4 or QuickTime films, but for the times that their boxes hold."""
    if _film(old.read_bytes()) != _film(new.read_bytes()):
        raise NoComparison("its frames are not decoded here")


def _film(content: bytes) -> bytes:
    def without(found: re.Match[bytes]) -> bytes:
        wide = found.group(2)[:1] == b"\x01"
        return found.group(1) + found.group(2) + b"\0" * (16 if wide else 8) + found.group(3)[16 if wide else 8 :]

    return re.sub(rb"(mvhd|tkhd|mdhd)([\x00\x01]...)(.{16})", without, content, flags=re.DOTALL)


# ---- archives

#: Members of office files that say who saved them, and when.
_ABOUT = frozenset({"docProps/core.xml", "docProps/app.xml", "meta.xml", "settings.xml"})
Compare = Callable[[str, Path, Path, Look], None]


def archives(compare: Compare) -> Callable[[Path, Path, Look], None]:
    """Return the comparison of two archives by their members, each by its own kind."""

    def compared(old: Path, new: Path, look: Look) -> None:
        first, second = _members(old), _members(new)
        if first.keys() != second.keys():
            raise Different("the members differ")
        with tempfile.TemporaryDirectory(prefix="cmbagent-compare-") as folder:
            for name, content in first.items():
                if name in _ABOUT or content == second[name]:
                    continue
                _one_by_one(compare, name, content, second[name], Path(folder), look)

    return compared


def compressed(compare: Compare) -> Callable[[Path, Path, Look], None]:
    """Return the comparison of two compressed files by what they hold."""

    def compared(old: Path, new: Path, look: Look) -> None:
        first, second = _decompressed(old), _decompressed(new)
        if first != second:
            with tempfile.TemporaryDirectory(prefix="cmbagent-compare-") as folder:
                _one_by_one(compare, PurePosixPath(old.name).stem, first, second, Path(folder), look)

    return compared


def _one_by_one(compare: Compare, name: str, old: bytes, new: bytes, folder: Path, look: Look) -> None:
    """Compare one member by its own kind; its name decides, never a place."""
    suffix = PurePosixPath(name).suffix
    first, second = folder / f"old{suffix}", folder / f"new{suffix}"
    first.write_bytes(old)
    second.write_bytes(new)
    try:
        compare(name, first, second, look)
    except (Different, NoComparison) as error:
        raise type(error)(f"the member {name} differs: {error}") from None


def _members(path: Path) -> dict[str, bytes]:
    import tarfile
    import zipfile

    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if sum(item.file_size for item in archive.infolist()) > _LARGEST:
                raise NoComparison("its content is too large to be looked into")
            return {item.filename: archive.read(item) for item in archive.infolist() if not item.is_dir()}
    with tarfile.open(path) as tape:
        files = [item for item in tape.getmembers() if item.isfile()]
        if sum(item.size for item in files) > _LARGEST:
            raise NoComparison("its content is too large to be looked into")
        return {item.name: found.read() for item in files if (found := tape.extractfile(item)) is not None}


def _decompressed(path: Path) -> bytes:
    import bz2
    import gzip
    import lzma

    opened: Any = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}[path.suffix.lower()]
    with opened(path, "rb") as file:
        content: bytes = file.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise NoComparison("its content is too large to be looked into")
    return content
