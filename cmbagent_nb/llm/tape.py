"""Keeps the replies of a run, so that it can be replayed without spending a token.

A reply belongs to (node, attempt, agent) and the ordinal of the call there. It is given again when
the hash of the request is equal. Where the request for the same ordinal differs, the call is live,
and so are all that follow at that node in that attempt. What tools gave that a reply called is given
again with it, as long as the reply itself was: a live reply's tools are run. A reply in which a secret was masked is
never given again, since it is not what the model said.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cmbagent_nb.store.database import Database

#: The kind of the journal's lines that hold replies.
JOURNAL_KIND = "model_reply"
#: The kind of those that hold what a tool gave.
RESULT_KIND = "tool_result"
_MASK = "[redacted:"


@dataclass(frozen=True, slots=True)
class Stored:
    """A reply on the tape."""

    node_id: str
    attempt: int
    agent: str
    ordinal: int
    request_hash: str
    reply: Mapping[str, Any]
    #: The id of its row; empty when it was read from elsewhere.
    id: str = ""


@dataclass
class Tape:
    """The replies of a run that can be given again; each is given once."""

    _left: dict[tuple[str, int, str], list[Stored]] = field(default_factory=lambda: defaultdict(list))
    _live: set[tuple[str, int]] = field(default_factory=set)
    _results: dict[tuple[str, int, str], list[Mapping[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    #: Tool calls of the replies that were given.
    _called: set[tuple[str, int, str, str]] = field(default_factory=set)

    @classmethod
    def of(cls, replies: Iterable[Stored]) -> Tape:
        """Make a tape of these replies."""
        tape = cls()
        for stored in replies:
            tape._left[stored.node_id, stored.attempt, stored.agent].append(stored)
        for group in tape._left.values():
            group.sort(key=lambda item: item.ordinal)
            for stored in group:
                place = (stored.node_id, stored.attempt, stored.agent)
                tape._results[place].extend(stored.reply.get("tool_results") or ())
        return tape

    @classmethod
    def load(cls, db: Database, run_id: str) -> Tape:
        """Read the tape of a run from the database."""
        from cmbagent_nb.store.archived import record_of
        from cmbagent_nb.store.json import from_json

        rows = record_of(db, run_id).rows(
            "SELECT id, node_id, attempt, agent_name, ordinal, request_hash, reply FROM model_replies"
            " WHERE run_id = :run_id AND NOT masked ORDER BY created_at",
            run_id=run_id,
        )
        return cls.of(
            Stored(
                row["node_id"],
                row["attempt"],
                row["agent_name"],
                row["ordinal"],
                row["request_hash"],
                from_json(row["reply"]) if isinstance(row["reply"], str) else row["reply"],
                row["id"],
            )
            for row in rows
        )

    @classmethod
    def from_journal(cls, path: Path) -> Tape:
        """Read the tape of a run from its journal, when the database is lost."""
        from cmbagent_nb.store.journal import read_journal

        entries: list[dict[str, Any]] = []
        for entry in read_journal(path):
            if entry.kind == JOURNAL_KIND:
                entries.append(entry.data)
            elif entry.kind == RESULT_KIND:
                add_result(entries, entry.data)
        return cls.of(
            Stored(
                data["node_id"],
                data["attempt"],
                data["agent_name"],
                data["ordinal"],
                data["request_hash"],
                data["reply"],
            )
            for data in entries
            if _MASK not in repr(data["reply"])
        )

    def take(self, node_id: str, attempt: int, agent: str, ordinal: int, request_hash: str) -> Stored | None:
        """Return the stored reply for a call, once, or None when the call has to be live."""
        place = (node_id.partition(".")[0], attempt)
        left = self._left.get((node_id, attempt, agent))
        if not left or place in self._live:
            return None
        for index, stored in enumerate(left):
            if stored.request_hash == request_hash:
                for call in stored.reply.get("tool_calls") or ():
                    self._called.add((node_id, attempt, agent, call["id"]))
                return left.pop(index)
        if any(stored.ordinal == ordinal for stored in left):
            self._live.add(place)
        return None

    def result(
        self, node_id: str, attempt: int, agent: str, call_id: str, name: str, arguments: str
    ) -> Mapping[str, Any] | None:
        """Return what a tool gave, once, or None when it has to be run."""
        if (node_id, attempt, agent, call_id) not in self._called:
            return None
        left = self._results[node_id, attempt, agent]
        for index, kept in enumerate(left):
            if (kept["id"], kept["name"], kept["arguments"]) == (call_id, name, arguments):
                return left.pop(index)
        return None

    def __len__(self) -> int:
        return sum(len(group) for group in self._left.values())


def add_result(replies: list[dict[str, Any]], line: Mapping[str, Any]) -> None:
    """Put what a tool gave, as a line of the journal tells it, to the newest reply that called the tool."""
    place = (line["node_id"], line["attempt"], line["agent_name"])
    for row in reversed(replies):
        if (row["node_id"], row["attempt"], row["agent_name"]) != place:
            continue
        reply = row["reply"]
        if any(call["id"] == line["result"]["id"] for call in reply.get("tool_calls") or ()):
            row["reply"] = {**reply, "tool_results": [*(reply.get("tool_results") or ()), line["result"]]}
            return
