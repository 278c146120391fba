"""Rebuilds an `Outcome` from ``exit.json`` after the parent process died."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cmbagent_nb.capture.file_scan import Entry, sha256, skipped
from cmbagent_nb.execution.exits import judge
from cmbagent_nb.execution.launcher import Outcome
from cmbagent_nb.execution.output_tail import shown
from cmbagent_nb.execution.records import LEGACY, STDERR, STDOUT, is_legacy, masked, read_exit, records_of, redact
from cmbagent_nb.redaction import scrub


def load_trusted_exit(folder: Path) -> dict[str, Any] | None:
    """Return how the code in ``folder`` ended, or None when that is not known or we stopped it ourselves."""
    record = read_exit(folder)
    if record is None or (record.get("error") or {}).get("type") == "Cancelled":
        return None
    return record


def outcome_of(
    record: Mapping[str, Any], folder: Path, script: Path, seeds: Mapping[str, str], work_dir: Path
) -> Outcome:
    """Make the outcome that :func:`~cmbagent_nb.execution.launcher.launch` would have returned.

    Parameters
    ----------
    record
        What ``exit.json`` says.
    seeds
        The files that were put into the folder before, each with the place in the work dir that it was copied from;
        those that are unchanged were not made by the code.
    """
    redact(folder)
    own = LEGACY if is_legacy(folder) else frozenset()
    record_folder = records_of(folder)
    name = script.relative_to(folder).as_posix()
    entries = [
        Entry(item["path"], item["size"], item["mtime_ns"], item["sha256"], 0o644)
        for item in record.get("files", ())
        if item["path"] not in own
    ]
    if "made" in record:
        made = [entry for entry in entries if entry.path in set(record["made"])]
    else:
        made = [entry for entry in entries if not _is_seed(entry, seeds, work_dir)]
    stderr = scrub(shown(record_folder / STDERR))
    status, error = record["status"], masked(record.get("error"))
    if status != "completed" and error is None:
        status, error = judge(record["exit_code"], None, stderr, folder, script)
    return Outcome(
        status=status,
        exit_code=record["exit_code"],
        stdout=scrub(shown(record_folder / STDOUT)),
        stderr=stderr,
        error=error,
        made=made,
        reads=[path for path in record.get("reads", ()) if path not in {entry.path for entry in made}],
        started_at=record["started_at"],
        ended_at=record["ended_at"],
        pid=record["pid"],
        script=name,
        skipped=skipped(folder),
    )


def _is_seed(entry: Entry, seeds: Mapping[str, str], work_dir: Path) -> bool:
    place = entry.path if entry.path.startswith("input/") else seeds.get(entry.path, "")
    source = work_dir / place
    return source.is_file() and sha256(source) == entry.sha256
