"""Finds the files that a task names and that are not there: a run without them has not done its task."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

_SUFFIXES = [
    "csv",
    "tsv",
    "dat",
    "txt",
    "json",
    "jsonl",
    "parquet",
    "feather",
    "npy",
    "npz",
    "fits",
    "fit",
    "h5",
    "hdf5",
    "nc",
    "mat",
    "xlsx",
    "xls",
    "ods",
    "sqlite",
    "db",
    "yaml",
    "yml",
    "root",
    "png",
    "jpg",
    "jpeg",
    "gif",
    "svg",
    "pdf",
    "eps",
    "ps",
    "tif",
    "tiff",
    "mp4",
    "tex",
    "bib",
    "ecsv",
    "vot",
    "zip",
    "gz",
]
_FILE = re.compile(
    rf"(?<![\w./\\:@*{{-])((?:[A-Za-z]:)?[~./\w-]*[\w-]\.(?:{'|'.join(_SUFFIXES)}))(?![\w*}}]|\.\w)", re.IGNORECASE
)
#: Words before a name that says how something looks, not that it should be there.
_EXAMPLE = re.compile(r"(such as|e\.g\.|for example|like|unlike|not|no|without)\s+[`'\"(]*$", re.IGNORECASE)


def files_in(task: str) -> list[str]:
    """Return the files that a task names; those of a URL or a pattern are not among them.

    >>> files_in("Read input/sne.csv and save chi2.json; see https://x.org/a.csv")
    ['input/sne.csv', 'chi2.json']
    """
    plain = re.sub(r"\b[a-z]+://\S+", " ", task)
    return [
        found.group(1)
        for found in _FILE.finditer(plain)
        if not _EXAMPLE.search(plain[max(0, found.start() - 20) : found.start()])
    ]


def absent(task: str, there: Iterable[str], folder: Path) -> list[str]:
    """Return the files that a task names and that neither the run has nor the disk.

    Parameters
    ----------
    there
        Paths of files that the run read or made, or that a skill brings.
    folder
        The run's folder.
    """
    named = list(dict.fromkeys(files_in(task)))
    if not named:
        return []
    known = {PurePosixPath(path).name.casefold() for path in there}
    known |= {path.name.casefold() for path in folder.rglob("*") if path.is_file()} if folder.is_dir() else set()
    return [
        name
        for name in named
        if PurePosixPath(name).name.casefold() not in known and not Path(name).expanduser().is_file()
    ]
