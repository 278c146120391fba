"""Compares a file that a skill made with the run's own.

| kind | equal when |
|---|---|
| JSON, YAML, TOML | the same structure, texts and whole numbers; other numbers within ``RTOL`` |
| tables (CSV, TSV, parquet, feather), SQLite | the same columns and rows; numbers within ``RTOL`` |
| arrays (npy, npz, mat), FITS, HDF5, NetCDF | the same shape and kind; numbers within ``RTOL`` |
| pictures | the same size and decoded pixels, but for rounding where a line is smoothed |
| SVG, PDF, EPS, PS, HTML | the same but for dates and made-up ids |
| archives (zip, tar, xlsx, ods), gzip | the same members, each by its own kind |
| text, code | the same but for folders, dates, durations measured, and rounding of long numbers |
| anything else | byte by byte: where these differ, nothing is known, and the file does not count |

Pickled objects are never loaded. What is passed over (a time of day, a duration, a made-up name) is said.
"""

from __future__ import annotations

import filecmp
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from cmbagent_nb.skills.verifying import by_text, by_values
from cmbagent_nb.skills.verifying.look import Different, Look, NoComparison

Function = Callable[[Path, Path, Look], None]

#: Files that hold pickled objects: loading them would run what they say.
_PICKLED = frozenset({".pkl", ".pickle", ".joblib", ".pt", ".pth", ".p", ".dill", ".ckpt"})
#: Texts that report what was done rather than hold a result.
_REPORTS = frozenset({".txt", ".log", ".out", ".md"})
_LONGEST_REPORT = 64 * 2**10


@dataclass(frozen=True)
class Comparison:
    """Comparison of one file, or of one displayed result: equal or not, the method, and the differences."""

    path: str
    equal: bool
    how: str
    detail: str = ""
    largest_difference: float | None = None
    skipped: tuple[str, ...] = ()
    #: Whether nothing here can tell what the difference means: it is neither reproduced nor refuted.
    undecided: bool = False
    #: Whether it holds a result, so that its being equal says something.
    counts: bool = True
    #: The name that it has this time, where that holds a date or a made-up part.
    now: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the comparison as it is kept in the report."""
        found = {
            "path": self.path,
            "equal": self.equal,
            "how": self.how,
            "detail": self.detail,
            "largest_difference": self.largest_difference,
            "skipped": list(self.skipped),
        }
        said: dict[str, Any] = {"undecided": True} if self.undecided else {}
        said |= {} if self.counts else {"counts": False}
        return found | said | ({"now": self.now} if self.now else {})


def compare(
    path: str,
    old: Path,
    new: Path,
    folders: tuple[str, ...] = (),
    *,
    asks_clock: bool = False,
    exact: bool = False,
    said: Collection[str] | None = None,
) -> Comparison:
    """Compare the run's file ``old`` with the skill's ``new``.

    Parameters
    ----------
    folders
        Folders whose paths may stand in texts: where the run and the skill worked.
    asks_clock
        Whether the code asks the clock, so that any date in the file may be the run's own.
    exact
        Whether every difference counts, as when the effect of a parameter is looked for.
    said
        The words in the strings of the code; see :func:`has_result`.
    """
    how, function = method(path)
    if not old.is_file():
        return Comparison(path, False, how, "the run's own file is not there any more")
    if not new.is_file():
        return Comparison(path, False, how, "the skill did not make it")
    counts = has_result(path, old, said)
    if old.stat().st_size == new.stat().st_size and filecmp.cmp(old, new, shallow=False):
        return Comparison(path, True, how, "the same bytes", 0.0, counts=counts)
    look = Look.at(folders, asks_clock=asks_clock, exact=exact)
    try:
        function(old, new, look)
    except Different as finding:
        return Comparison(path, False, how, str(finding), None, tuple(look.skipped), counts=counts)
    except NoComparison as finding:
        return Comparison(path, False, "bytes", _undecided(path, old, new, str(finding)), undecided=True, counts=False)
    except Exception as error:  # a damaged file, or one that is not what its name says: bytes decide, and they differ
        return Comparison(path, False, how, f"it cannot be read as {how} ({type(error).__name__}: {error})")
    return Comparison(path, True, how, "", look.largest, tuple(look.skipped), counts=counts)


def _undecided(path: str, old: Path, new: Path, why: str) -> str:
    sizes = f"{old.stat().st_size} bytes became {new.stat().st_size} others"
    return (
        f"{sizes}; {PurePosixPath(path).suffix or 'its format'} has no comparison of its own ({why}): it does not count"
    )


def method(path: str) -> tuple[str, Function]:
    """Return by what, and how, files of this name are compared.

    >>> method("plots/tt.png")[0], method("data/fit.json")[0], method("data/x.csv")[0], method("x.pkl")[0]
    ('decoded pixels', 'numbers', 'numbers', 'bytes')
    """
    name = PurePosixPath(path).name.lower()
    return next((found for suffixes, found in _METHODS if name.endswith(suffixes)), ("bytes", _bytes))


def has_result(path: str, place: Path, said: Collection[str] | None = None) -> bool:
    """Tell whether a file holds something that can be right or wrong; an empty one, or a bare "done", does not.

    A short text without numbers does where it has a word that is not ``said`` in the code: it was computed or read.
    """
    size = place.stat().st_size
    if not size:
        return False
    suffix = PurePosixPath(path).suffix.lower()
    if suffix in _REPORTS and size <= _LONGEST_REPORT:
        text = place.read_text(encoding="utf-8", errors="replace")
        return any(item.isdigit() for item in text) or len(text.split()) > 50 or _says_more(text, said)
    if suffix in (".json", ".yaml", ".yml") and size <= _LONGEST_REPORT:
        text = place.read_text(encoding="utf-8", errors="replace")
        return (
            any(item.isdigit() for item in text)
            or any(word in text for word in ("true", "false", "["))
            or _says_more(text, said)
        )
    return True


def _says_more(text: str, said: Collection[str] | None) -> bool:
    return said is not None and not {word.casefold() for word in re.findall(r"\w+", text)} <= set(said)


def _bytes(old: Path, new: Path, look: Look) -> None:
    pickled = old.suffix.lower() in _PICKLED
    raise NoComparison("pickled objects are never loaded" if pickled else "its form is not known here")


def _inner(name: str, old: Path, new: Path, look: Look) -> None:
    """Compare a member of an archive by its own kind."""
    method(name)[1](old, new, look)


_METHODS: tuple[tuple[tuple[str, ...], tuple[str, Function]], ...] = (
    ((".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar"), ("members", by_text.archives(_inner))),
    ((".gz", ".bz2", ".xz"), ("content", by_text.compressed(_inner))),
    (
        (".png", ".apng", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".ico"),
        ("decoded pixels", by_text.pictures),
    ),
    ((".json", ".geojson"), ("numbers", by_values.json_files)),
    ((".jsonl", ".ndjson"), ("numbers", by_values.json_lines)),
    ((".yaml", ".yml"), ("numbers", by_values.yaml_files)),
    ((".toml",), ("numbers", by_values.toml_files)),
    (
        (".csv", ".tsv", ".tab", ".parquet", ".pq", ".feather", ".arrow", ".ipc"),
        ("numbers", by_values.table_files),
    ),
    ((".npy", ".npz"), ("numbers", by_values.array_files)),
    ((".fits", ".fit", ".fts"), ("numbers", by_values.fits_files)),
    ((".h5", ".hdf5", ".hdf", ".he5"), ("numbers", by_values.hdf5_files)),
    ((".nc", ".nc4", ".cdf"), ("numbers", by_values.netcdf_files)),
    ((".mat",), ("numbers", by_values.matlab_files)),
    ((".db", ".sqlite", ".sqlite3"), ("rows", by_values.databases)),
    ((".dat", ".ecsv", ".asc", ".ascii", ".cat", ".tbl", ".par", ".ini", ".cfg"), ("text", by_values.spaced_files)),
    (
        (".txt", ".md", ".rst", ".tex", ".bib", ".py", ".r", ".xml", ".vot", ".log", ".out", ".kml", ".vtk", ".sh"),
        ("text", by_text.text_files),
    ),
    ((".html", ".htm"), ("text", by_text.html_files)),
    ((".ipynb",), ("cells", by_text.notebooks)),
    ((".svg", ".pdf", ".eps", ".ps"), ("drawing", by_text.drawings)),
    ((".mp4", ".mov", ".m4v"), ("content", by_text.films)),
    ((".zip", ".xlsx", ".xlsm", ".docx", ".pptx", ".ods", ".odt", ".kmz"), ("members", by_text.archives(_inner))),
)
