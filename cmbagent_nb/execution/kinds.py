"""Determines the kind of a file by its folder and suffix.

>>> file_type("plots/tt.png"), file_type("data/fit.json"), file_type("codebase/fit.py"), file_type("report.md")
('plot', 'data', 'code', 'report')
>>> mime("data/fit.parquet"), mime("data/noname")
('application/vnd.apache.parquet', 'application/octet-stream')
"""

from __future__ import annotations

import mimetypes
from pathlib import PurePosixPath

PICTURES = frozenset({".png", ".svg", ".jpg", ".jpeg", ".gif", ".webp", ".tif", ".tiff"})
CODE = frozenset({".py", ".ipynb", ".r", ".jl", ".sh", ".c", ".cpp", ".f90"})
REPORTS = frozenset({".md", ".rst", ".tex", ".html"})
_DATA = (
    ".csv .tsv .parquet .feather .arrow .npy .npz .json .jsonl .txt .dat .fits .fit .h5 .hdf5 .nc .ecsv .xlsx .yaml "
    ".yml .xml .db .sqlite .gz .bz2 .xz .zip .bin .pkl .mat .root"
)
DATA = frozenset(_DATA.split())
#: Folders of a run whose files have one kind, whatever their suffix.
FOLDERS = {"planning": "plan", "plots": "plot", "codebase": "code", "chats": "chat", "context": "context"}

#: Types that the platform's table may not know, or may call differently on each platform.
MIME = {
    ".py": "text/x-python",
    ".md": "text/markdown",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".csv": "text/csv",
    ".tsv": "text/tab-separated-values",
    ".txt": "text/plain",
    ".dat": "text/plain",
    ".log": "text/plain",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".pdf": "application/pdf",
    ".parquet": "application/vnd.apache.parquet",
    ".feather": "application/vnd.apache.arrow.file",
    ".arrow": "application/vnd.apache.arrow.file",
    ".npy": "application/x-npy",
    ".npz": "application/x-npz",
    ".fits": "application/fits",
    ".fit": "application/fits",
    ".h5": "application/x-hdf5",
    ".hdf5": "application/x-hdf5",
    ".nc": "application/x-netcdf",
    ".ipynb": "application/x-ipynb+json",
    ".gz": "application/gzip",
    ".zip": "application/zip",
}


def file_type(path: str) -> str:
    """Return plan, code, data, plot, report, chat, context, log or other for a path in a run's work dir."""
    pure = PurePosixPath(path)
    suffix = pure.suffix.lower()
    folder = pure.parts[0] if len(pure.parts) > 1 else ""
    if suffix in PICTURES or (suffix == ".pdf" and folder != "reports"):
        return "plot"
    if suffix in CODE:
        return "code"
    if folder in FOLDERS:
        return FOLDERS[folder]
    if suffix == ".log" or folder in ("cost", "time"):
        return "log"
    if suffix in REPORTS:
        return "report"
    return "data" if suffix in DATA or folder in ("data", "input") else "other"


def mime(path: str) -> str:
    """Return the MIME type of a path, by its suffix."""
    suffix = PurePosixPath(path).suffix.lower()
    return MIME.get(suffix) or mimetypes.guess_type(path)[0] or "application/octet-stream"
