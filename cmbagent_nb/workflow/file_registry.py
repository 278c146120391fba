"""Registers every file that a run makes as an event and a row, with its version and its predecessor."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.capture.file_scan import sha256
from cmbagent_nb.ids import new_id
from cmbagent_nb.store.json import from_json
from cmbagent_nb.workflow.versions import Conflict, Given, Order, Version

if TYPE_CHECKING:
    from cmbagent_nb.capture.recorder import Recorder
    from cmbagent_nb.workflow.journaled import JournaledWriter

#: Who has made a file for the run itself, in no attempt at a step.
NOBODY = (None, None)


@dataclass
class _Link:
    """A row in the chain of a path's versions."""

    file_id: str
    node_id: str
    version: int


@dataclass(frozen=True)
class MadeFile:
    """A file that was made, by its path in the work dir."""

    path: str
    size: int
    sha256: str
    mime: str
    file_type: str
    #: Where the attempt made it, if that is another place; relative to the work dir.
    source: str = ""


class FileRegistry:
    """Registers the files of one run."""

    def __init__(
        self,
        journaled: JournaledWriter,
        recorder: Recorder,
        run_id: str,
        session_id: str,
        past: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        self._journaled = journaled
        self._recorder = recorder
        self._run_id = run_id
        self._session_id = session_id
        #: The versions of each path, in their order.
        self._chains: dict[str, list[_Link]] = {}
        #: What each node has published in its newest attempt, by path; and the row of each of these files.
        self._by_node: dict[str, dict[str, Version]] = {}
        self._meta: dict[str, dict[str, Any]] = {}
        self._past: dict[tuple[str, str, str | None, int | None], str] = {}
        rows = list(past)
        for row in rows:
            link = _Link(row["id"], row["node_id"] or "", row["version"])
            self._chains.setdefault(row["file_path"], []).append(link)
        for row in sorted(rows, key=lambda item: item["id"]):  # as they were credited
            meta = from_json(row["meta"]) if row["meta"] else {}
            node_id, attempt, path = row["node_id"], meta.get("attempt"), row["file_path"]
            source = meta.get("source") or _likely_source(node_id, attempt, path, row["file_type"])
            if row["priority"] != "internal" and node_id is not None:
                version = Version(row["id"], path, source, row["content_hash"] or "", node_id, attempt or 0)
                self._remember(version, meta)
            self._past[path, row["content_hash"], node_id, attempt] = row["id"]

    def _remember(self, version: Version, meta: dict[str, Any]) -> None:
        held = self._by_node.setdefault(version.node_id, {})
        newest = max((item.attempt for item in held.values()), default=0)
        if version.attempt < newest:
            return
        if version.attempt > newest:
            held.clear()
        held[version.path] = version
        self._meta[version.file_id] = meta

    def register(
        self,
        made: MadeFile,
        *,
        agent: str,
        parent: str | None,
        phase: str,
        code_hash: str | None = None,
        final: bool = True,
        meta: dict[str, Any] | None = None,
        order: Order | None = None,
    ) -> str:
        """Record a file for the node that the caller is in; returns the id of its row.

        The versions of a path are numbered in the ``order`` of the plan, whenever they came: the last one counts.

        A file that a failed attempt left is not ``final`` and does not count among the node's files. A file that
        the same attempt credited before its run was interrupted is not credited again.
        """
        where = self._recorder.current_location()
        node_id, attempt = (where.node_id, where.attempt) if where else NOBODY
        known = self._past.pop((made.path, made.sha256, node_id, attempt), None)
        if known is not None:
            return known
        chain = self._chains.setdefault(made.path, [])
        later = [link for link in chain if order is not None and order.later(link.node_id, node_id or "")]
        before = next((link for link in reversed(chain) if link not in later), None)
        event_id = self._recorder.record(
            "file_gen",
            subtype="update" if before else "create",
            agent=agent,
            outputs={"path": made.path, "size": made.size, "sha256": made.sha256},
            parent=parent,
        )
        file_id = new_id()
        version = min((link.version for link in later), default=before.version + 1 if before else 1)
        about = {
            "attempt": attempt,
            **({"source": made.source} if made.source else {}),
            **(meta or {}),
        }
        self._journaled.insert(
            "file",
            "files",
            {
                "id": file_id,
                "run_id": self._run_id,
                "session_id": self._session_id,
                "node_id": node_id,
                "event_id": event_id,
                "file_path": made.path,
                "file_type": made.file_type,
                "mime": made.mime,
                "size_bytes": made.size,
                "content_hash": made.sha256,
                "version": version,
                "parent_file_id": before.file_id if before else None,
                "created_by_agent": agent,
                "generating_code_hash": code_hash,
                "workflow_phase": phase,
                "is_final_output": final and made.file_type in ("data", "plot", "report"),
                "priority": _priority(made.file_type) if final else "internal",
                "created_at": time.time(),
                "meta": about,
            },
        )
        self._insert(chain, _Link(file_id, node_id or "", version), later)
        if final and node_id is not None:
            source = made.source or made.path
            self._remember(Version(file_id, made.path, source, made.sha256, node_id, attempt or 0), about)
        return file_id

    def of(self, node_ids: Iterable[str]) -> list[str]:
        """Return the paths of the files that these nodes have published."""
        return list(dict.fromkeys(path for node_id in node_ids for path in self._by_node.get(node_id, ())))

    # ---- versions

    def given(self, node_ids: Iterable[str], order: Order, preferred: Collection[str] = ()) -> Given:
        """Return the versions of files that a step is given; see :meth:`~cmbagent_nb.workflow.versions.Order.given`."""
        return order.given(self._by_node, node_ids, preferred)

    def source(self, node_id: str, path: str) -> str:
        """Return where the version of a path is that a node published, relative to the work dir."""
        version = self._by_node.get(node_id, {}).get(path)
        return version.source if version else path

    def standing(self, path: str, order: Order) -> Version | None:
        """Return the version of a path that counts in the work dir."""
        found = self._publishers(path)
        return order.choose(path, found)[0] if found else None

    def outranked(self, node_id: str, paths: Iterable[str], order: Order) -> set[str]:
        """Return those of ``paths`` at which the version of another step than ``node_id`` counts."""
        return {path for path in paths if order.last([node_id, *self._publishers(path)]) != node_id}

    def withdraw(self, node_id: str, attempt: int, paths: Collection[str], order: Order) -> list[tuple[str, str]]:
        """Forget what earlier attempts at a step published, now that another one publishes ``paths``.

        What was written into the work dir itself, such as what the step was told, stays: no attempt has made it.

        Returns, for each path that is not published again, the place of the version that counts there now, or an
        empty text if there is none.
        """
        back = []
        held = self._by_node.get(node_id, {})
        for path, version in [(path, item) for path, item in held.items() if item.attempt < attempt]:
            if version.source == path:
                continue
            stood = self.standing(path, order) == version
            del held[path]
            if path in paths:
                continue
            self._chains[path] = [link for link in self._chains[path] if link.file_id != version.file_id]
            columns = {"file_path": version.source, "priority": "internal", "is_final_output": False}
            self._change(version, {"conflict": []}, **columns)
            self._mark(path, order)
            if stood:
                now = self.standing(path, order)
                back.append((path, now.source if now else ""))
        return back

    def conflicts(self, node_id: str, order: Order) -> list[Conflict]:
        """Mark the files of a node for whose paths there are versions of independent steps; return these conflicts."""
        found = (self._mark(path, order) for path in self._by_node.get(node_id, ()))
        return [
            conflict
            for conflict in found
            if conflict is not None and node_id in {item.node_id for item in (conflict.used, *conflict.others)}
        ]

    def all_conflicts(self, order: Order) -> list[str]:
        """Return a line for each path, scripts left out, of which independent steps published versions."""
        paths = sorted({path for held in self._by_node.values() for path in held})
        found = [order.choose(path, self._publishers(path))[1] for path in paths if not path.startswith("codebase/")]
        return [str(conflict) for conflict in found if conflict is not None]

    def _publishers(self, path: str) -> dict[str, Version]:
        return {node_id: held[path] for node_id, held in self._by_node.items() if path in held}

    def _mark(self, path: str, order: Order) -> Conflict | None:
        """Note in the rows of a path which independent steps published it as well."""
        found = self._publishers(path)
        if not found:
            return None
        conflict = order.choose(path, found)[1]
        for node_id, version in found.items():
            rivals = sorted(other for other in found if order.independent(node_id, other))
            if self._meta[version.file_id].get("conflict", []) != rivals:
                self._change(version, {"conflict": rivals})
        return conflict

    def _insert(self, chain: list[_Link], link: _Link, later: list[_Link]) -> None:
        """Put a row into the chain of its path's versions; those of later steps move on."""
        place = chain.index(later[0]) if later else len(chain)
        chain.insert(place, link)
        for before, after in pairwise(chain[place:]):
            after.version = max(after.version, before.version + 1)
            values = {"version": after.version, "parent_file_id": before.file_id}
            self._journaled.update("file_changed", "files", after.file_id, values)

    def _change(self, version: Version, more: dict[str, Any], **columns: Any) -> None:
        meta = self._meta.get(version.file_id, {}) | more
        self._meta[version.file_id] = {name: value for name, value in meta.items() if value not in (None, [])}
        self._journaled.update(
            "file_changed", "files", version.file_id, {**columns, "meta": self._meta[version.file_id]}
        )


def places(work_dir: Path, versions: Mapping[str, Version]) -> dict[str, str]:
    """Return where each version can be copied from: where it was made, or its path if that holds the same content.

    A version that is in neither place keeps the one where it was made; whoever copies it says that it is not there.
    """
    found = {}
    for path, version in versions.items():
        moved = version.source != path and not (work_dir / version.source).is_file()
        held = moved and (work_dir / path).is_file() and version.sha256 in ("", sha256(work_dir / path))
        found[path] = path if held else version.source
    return found


def _likely_source(node_id: str | None, attempt: int | None, path: str, file_type: str) -> str:
    """Return where a file was made whose row does not say it: an earlier version published files without."""
    published = node_id and attempt and file_type not in ("context", "plan")
    return f"steps/{node_id}/attempt_{attempt}/{path}" if published else path


def _priority(file_type: str) -> str:
    return "primary" if file_type in ("plot", "report", "data") else "secondary"
