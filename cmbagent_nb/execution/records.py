"""Locates our own files about an attempt: ``steps/step_2/attempt_1.record/``, beside its working folder.

Attempts of earlier versions have these files in their folder, under the names of :data:`LEGACY`; they are read there.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cmbagent_nb.capture.file_scan import Entry, scan
from cmbagent_nb.execution.supervisor import ERROR_FILE, EXIT_FILE, READS_FILE
from cmbagent_nb.redaction import scrub

STDOUT = "stdout.txt"
STDERR = "stderr.txt"
#: Names that earlier versions used within an attempt's folder.
LEGACY = frozenset({STDOUT, STDERR, EXIT_FILE, "reads.jsonl"})


def record_folder(folder: Path) -> Path:
    """Return the folder with our files about the attempt in ``folder``.

    >>> record_folder(Path("steps/step_2/attempt_1")).as_posix()
    'steps/step_2/attempt_1.record'
    """
    return folder.with_name(f"{folder.name}.record")


def is_legacy(folder: Path) -> bool:
    """Tell whether an attempt was made by a version that kept its files within the attempt's folder."""
    return not record_folder(folder).is_dir() and folder.is_dir()


def records_of(folder: Path) -> Path:
    """Return where our files about an attempt are to be read."""
    return folder if is_legacy(folder) else record_folder(folder)


def begin(folder: Path) -> Path:
    """Make the record folder of an attempt whose code is about to run, without what an earlier start left in it."""
    record = record_folder(folder)
    record.mkdir(parents=True, exist_ok=True)
    for name in (EXIT_FILE, ERROR_FILE, READS_FILE, STDOUT, STDERR):
        (record / name).unlink(missing_ok=True)
    return record


def read_exit(folder: Path) -> dict[str, Any] | None:
    """Return what ``exit.json`` says of an attempt, or None if its end was never written."""
    try:
        record = json.loads((records_of(folder) / EXIT_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and "status" in record else None


def noted_reads(folder: Path) -> list[str]:
    """Return which files the code in a folder was seen to open for reading, each once."""
    try:
        names = (record_folder(folder) / READS_FILE).read_bytes().split(b"\0")[:-1]
    except OSError:
        return []
    return list(dict.fromkeys(os.fsdecode(name) for name in names))


def redact(folder: Path) -> None:
    """Mask secrets in our files about an attempt, once its code has ended."""
    for path in sorted(records_of(folder).glob("*")):
        if path.name not in (STDOUT, STDERR, EXIT_FILE, ERROR_FILE) or not path.is_file():
            continue
        text = path.read_bytes().decode("utf-8", "surrogateescape")
        masked = scrub(text)
        if masked != text:
            temporary = path.with_name(f".{path.name}.masked")
            temporary.write_bytes(masked.encode("utf-8", "surrogateescape"))
            temporary.replace(path)


def masked(error: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return an error with secrets masked in its texts."""
    if error is None:
        return None
    return {name: scrub(value) if isinstance(value, str) else value for name, value in error.items()}


def write_exit(
    folder: Path,
    record: dict[str, Any],
    still: Callable[[], bool] = lambda: True,
    *,
    after: dict[str, Entry] | None = None,
) -> None:
    """Write ``exit.json`` with the folder's files, at once or not at all; nothing when ``still`` is false by then."""
    files = scan(folder) if after is None else after
    listed = [
        {"path": entry.path, "size": entry.size, "mtime_ns": entry.mtime_ns, "sha256": entry.sha256}
        for entry in files.values()
    ]
    place = record_folder(folder)
    place.mkdir(parents=True, exist_ok=True)
    temporary = place / f".{EXIT_FILE}.launcher"
    with temporary.open("w", encoding="utf-8") as file:
        json.dump({**record, "files": listed}, file)
        file.flush()
        os.fsync(file.fileno())
    if still():
        temporary.replace(place / EXIT_FILE)
    else:
        with contextlib.suppress(OSError):
            temporary.unlink()
