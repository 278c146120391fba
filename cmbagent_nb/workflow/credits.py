"""Who made which file: every file becomes an event and a row, with its version and its predecessor."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cmbagent_nb.ids import new_id
from cmbagent_nb.store.json import from_json

if TYPE_CHECKING:
    from cmbagent_nb.capture.recorder import Recorder
    from cmbagent_nb.workflow.kept import Kept


@dataclass(frozen=True)
class MadeFile:
    """A file that was made, by its path in the work dir."""

    path: str
    size: int
    sha256: str
    mime: str
    file_type: str


class Credits:
    """The files of one run."""

    def __init__(
        self,
        kept: Kept,
        recorder: Recorder,
        run_id: str,
        session_id: str,
        past: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        self._kept = kept
        self._recorder = recorder
        self._run_id = run_id
        self._session_id = session_id
        self._latest: dict[str, tuple[str, int]] = {}
        self._by_node: dict[str, dict[str, None]] = {}
        self._past: dict[tuple[str, str, str | None, int | None], str] = {}
        for row in past:
            self._remember(row["file_path"], row["id"], row["version"], row["node_id"], row["priority"] != "internal")
            attempt = (from_json(row["meta"]) if row["meta"] else {}).get("attempt")
            self._past[row["file_path"], row["content_hash"], row["node_id"], attempt] = row["id"]

    def _remember(self, path: str, file_id: str, version: int, node_id: str | None, final: bool) -> None:
        self._latest[path] = (file_id, version)
        if final and node_id is not None:
            self._by_node.setdefault(node_id, {})[path] = None

    def credit(
        self,
        made: MadeFile,
        *,
        agent: str,
        parent: str | None,
        phase: str,
        code_hash: str | None = None,
        final: bool = True,
        meta: dict[str, Any] | None = None,
    ) -> str:
        """Record a file for the node that the caller is in; returns the id of its row.

        A file that a failed attempt left is not ``final`` and does not count among the node's files. A file that
        the same attempt credited before its run was interrupted is not credited again.
        """
        where = self._recorder.here()
        place = (where.node_id, where.attempt) if where else (None, None)
        known = self._past.pop((made.path, made.sha256, *place), None)
        if known is not None:
            return known
        before = self._latest.get(made.path)
        event_id = self._recorder.record(
            "file_gen",
            subtype="update" if before else "create",
            agent=agent,
            outputs={"path": made.path, "size": made.size, "sha256": made.sha256},
            parent=parent,
        )
        file_id = new_id()
        version = before[1] + 1 if before else 1
        self._kept.insert(
            "file",
            "files",
            {
                "id": file_id,
                "run_id": self._run_id,
                "session_id": self._session_id,
                "node_id": where.node_id if where else None,
                "event_id": event_id,
                "file_path": made.path,
                "file_type": made.file_type,
                "mime": made.mime,
                "size_bytes": made.size,
                "content_hash": made.sha256,
                "version": version,
                "parent_file_id": before[0] if before else None,
                "created_by_agent": agent,
                "generating_code_hash": code_hash,
                "workflow_phase": phase,
                "is_final_output": final and made.file_type in ("data", "plot", "report"),
                "priority": _priority(made.file_type) if final else "internal",
                "created_at": time.time(),
                "meta": {"attempt": where.attempt if where else None, **(meta or {})},
            },
        )
        self._remember(made.path, file_id, version, where.node_id if where else None, final)
        return file_id

    def of(self, node_ids: Iterable[str]) -> list[str]:
        """Return the paths of the files that these nodes have published."""
        return list(dict.fromkeys(path for node_id in node_ids for path in self._by_node.get(node_id, ())))


def _priority(file_type: str) -> str:
    return "primary" if file_type in ("plot", "report", "data") else "secondary"
