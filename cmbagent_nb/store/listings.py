"""Reads the record as columns of plain values; :mod:`cmbagent_nb.store.frames` makes DataFrames of them.

Each query is defined here once. Nothing heavy is imported, so that a listing on the command line costs little.

| rule | |
|---|---|
| names | the columns of the tables; what is added says so below |
| ``run_id`` | one run; ``session``: the runs of a session, by its id or name; neither: all |
| a run that was archived | is read from its archive, also among all runs |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from cmbagent_nb.errors import CMBAgentError, StoreError
from cmbagent_nb.store.archived import archived_runs, record_of
from cmbagent_nb.store.columns import BOOLEAN, JSON, is_real
from cmbagent_nb.store.conflicts import rivals
from cmbagent_nb.store.database import Database, as_meant
from cmbagent_nb.store.files import is_missing
from cmbagent_nb.store.json import from_json_all
from cmbagent_nb.store.node_summary import node_summary
from cmbagent_nb.store.totals import TOTALS

#: What :func:`nodes` adds to the table: the main parts of a node's summary.
SUMMARY_COLUMNS = (
    "duration_s", "n_events", "n_messages", "n_files", "attempts", "tokens", "cost_usd", "errors", "completion_rate",
    "event_types", "agent_calls", "files_by_type", "time_by_agent", "cost_by_agent",
)  # fmt: skip


@dataclass
class Listing:
    """Rows of the record, column by column, as they are stored."""

    columns: dict[str, list[Any]]
    #: The columns that were computed: their values are no JSON text.
    added: set[str] = field(default_factory=set)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def values(self, name: str) -> list[Any]:
        """Return the values of a column, JSON read and flags true or false.

        Raises
        ------
        StoreError
            A value is damaged.
        """
        column = self.columns[name]
        if name in self.added:
            return column
        return list(checked(name, lambda: _values(name, column)))

    def records(self) -> list[dict[str, Any]]:
        """Return the rows as dicts; times are seconds."""
        columns = {name: self.values(name) for name in self.columns}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def taking(self, places: Sequence[int]) -> Listing:
        """Return some of the rows."""
        return Listing({name: [column[place] for place in places] for name, column in self.columns.items()}, self.added)

    def where(self, name: str, value: Any) -> Listing:
        """Return the rows that have a value in a column."""
        return self.taking([place for place, item in enumerate(self.columns[name]) if item == value])

    def head(self, count: int) -> Listing:
        """Return the first rows."""
        return self.taking(range(len(self))[:count])

    def tail(self, count: int) -> Listing:
        """Return the last rows."""
        return self.taking(range(len(self))[-count:])

    def adding(self, before: str = "", **columns: list[Any]) -> Listing:
        """Return the listing with computed columns, at its end or before another column."""
        names = list(self.columns)
        place = names.index(before) if before else len(names)
        both = self.columns | columns
        order = [*names[:place], *columns, *names[place:]]
        return Listing({name: both[name] for name in order}, self.added | set(columns))

    def frame(self) -> Any:
        """Return a DataFrame."""
        from cmbagent_nb.store.frames import frame_of

        return frame_of(list(self.columns), list(self.columns.values()), self.added)


def checked(name: str, read: Callable[[], Any]) -> Any:
    """Return what ``read`` returns of a column, or raise that a value of it is damaged."""
    try:
        return read()
    except CMBAgentError:
        raise
    except (TypeError, ValueError) as error:  # a value of another type than its column's
        raise StoreError(
            f"a value of {name} in the record is damaged",
            "Run `cmbagent doctor --repair`: it takes what is damaged from the journals of the runs.",
            damaged=True,
        ) from error


def _values(name: str, column: list[Any]) -> list[Any]:
    if is_real(name):
        return [None if value is None else float(value) for value in column]
    if name in JSON:
        return list(from_json_all(column))
    if name in BOOLEAN:
        return [None if value is None else bool(value) for value in column]
    return column


def events(db: Database, run_id: str | None = None, session: str | None = None) -> Listing:
    """Return the events, in the order in which they began."""
    return _table(db, "execution_events", "execution_order, id", run_id, session)


def messages(db: Database, run_id: str | None = None, session: str | None = None) -> Listing:
    """Return what the agents said to one another."""
    return _table(db, "messages", "id", run_id, session)


def files(db: Database, run_id: str | None = None, session: str | None = None) -> Listing:
    """Return the files that were made, every version of them; those not at their place any more are ``missing``.

    ``conflict`` names the steps that published the same path, independently of the step that made the file: the newest
    version is the one at the path. ``source`` is where each version was made, in the run's work dir, and stays.
    """
    found = _table(db, "files", "created_at, id", run_id, session)
    folders = {row["id"]: row["work_dir"] for row in db.rows("SELECT id, work_dir FROM workflow_runs")}
    columns = found.columns
    meta = [item if isinstance(item, dict) else {} for item in found.values("meta")]
    known = zip(columns["run_id"], columns["file_path"], strict=True)
    return found.adding(
        missing=[is_missing(folders.get(run), path) for run, path in known],
        conflict=[", ".join(rivals(item)) or None for item in meta],
        source=[item.get("source") for item in meta],
    )


def costs(db: Database, run_id: str | None = None, session: str | None = None) -> Listing:
    """Return tokens and cost of each model call; a cost that is not known is missing, not zero."""
    return _table(db, "cost_records", "id", run_id, session)


def steps(db: Database, run_id: str | None = None, session: str | None = None) -> Listing:
    """Return the steps of the plan."""
    return _table(db, "workflow_steps", "step_number, id", run_id, session)


def history(db: Database, run_id: str | None = None, session: str | None = None) -> Listing:
    """Return every change of status, in order."""
    return _table(db, "state_history", "id", run_id, session)


def checkpoints(db: Database, run_id: str | None = None, session: str | None = None) -> Listing:
    """Return the places from which a run can be looked at as it stood."""
    return _table(db, "checkpoints", "journal_position, id", run_id, session)


def decisions(db: Database, run_id: str | None = None, session: str | None = None) -> Listing:
    """Return the gates with their answers, and what was asked as ``title`` and ``options``."""
    found = _table(db, "approval_requests", "created_at, id", run_id, session)
    asked = [item if isinstance(item, dict) else {} for item in found.values("context")]
    options = [[option.get("id") for option in item.get("options") or ()] for item in asked]
    return found.adding(before="context", title=[item.get("title") for item in asked], options=options)


def nodes(db: Database, run_id: str | None = None, session: str | None = None) -> Listing:
    """Return the nodes of the graph, with the main parts of their summaries as columns.

    A node that has ended has its summary in ``meta``; for a run's other nodes it is computed now.
    """
    found = _table(db, "dag_nodes", "order_index, depth, id", run_id, session)
    summaries = [meta.get("execution_summary") if isinstance(meta, dict) else None for meta in found.values("meta")]
    if run_id is not None and not all(summaries):
        with record_of(db, run_id).reading() as connection:
            summaries = [
                held or node_summary(connection, run_id, node)
                for held, node in zip(summaries, found.columns["node_id"], strict=True)
            ]
    parts = [_main_parts(summary or {}) for summary in summaries]
    found.columns |= {name: [part.get(name) for part in parts] for name in SUMMARY_COLUMNS}
    return found


def runs(db: Database, session: str | None = None, *, status: str | None = None, mode: str | None = None) -> Listing:
    """Return the runs, the newest first, with ``duration_s``, ``tokens``, ``cost_usd`` and ``model_calls``."""
    conditions, values = _conditions(None, session, prefix="r.")
    if status:
        conditions.append("r.status = :status")
        values["status"] = status
    if mode:
        conditions.append("r.mode = :mode")
        values["mode"] = mode
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    # Costs are added up for the runs that are wanted, and only for those that may spend more.
    sql = f"""
        WITH wanted AS (SELECT r.* FROM workflow_runs AS r {where})
        SELECT r.*, CASE WHEN r.ended_at < r.started_at THEN 0.0 ELSE r.ended_at - r.started_at END AS duration_s,
               COALESCE(r.total_tokens, c.tokens, 0) AS tokens,
               CASE WHEN COALESCE(r.total_unknown_costs, c.unknown, 0) > 0 THEN NULL
                    ELSE COALESCE(r.total_cost_usd, c.known, 0.0) END AS cost_usd,
               COALESCE(r.total_calls, c.calls, 0) AS model_calls
        FROM wanted AS r LEFT JOIN (
            SELECT run_id, SUM(total_tokens) AS tokens, SUM(cost_usd) AS known, COUNT(*) AS calls,
                   COUNT(*) - COUNT(cost_usd) AS unknown FROM cost_records
            WHERE run_id IN (SELECT id FROM wanted WHERE total_calls IS NULL) GROUP BY run_id) AS c ON c.run_id = r.id
        ORDER BY r.created_at DESC, r.id DESC"""
    found = _listed(db, sql, values)
    return Listing({name: column for name, column in found.columns.items() if name not in TOTALS})


def skills(db: Database) -> Listing:
    """Return the skills, all versions of them."""
    return _listed(db, "SELECT * FROM skills ORDER BY name, version", {})


def skill_executions(db: Database, skill_id: str | None = None, *, name: str | None = None) -> Listing:
    """Return the executions of one version of a skill, of all versions of a name, or of all skills."""
    where, values = "", {}
    if skill_id:
        where, values = "WHERE skill_id = :skill", {"skill": skill_id}
    elif name:
        where, values = "WHERE skill_id IN (SELECT id FROM skills WHERE name = :name)", {"name": name}
    return _listed(db, f"SELECT * FROM skill_executions {where} ORDER BY started_at, id", values)


# -- reading


def _table(db: Database, table: str, order: str, run_id: str | None, session: str | None) -> Listing:
    conditions, values = _conditions(run_id, session)
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    if run_id is not None:
        return _listed(record_of(db, run_id), f"SELECT * FROM {table} {where} ORDER BY {order}", values)
    sql = f"SELECT * FROM {table} {{}} ORDER BY run_id, {order}"
    away = archived_runs(db)
    if not away:
        return _listed(db, sql.format(where), values)
    here = " AND ".join([*conditions, f"run_id NOT IN ({', '.join(repr(str(run)) for run in away)})"])
    parts = [_listed(db, sql.format(f"WHERE {here}"), values)]
    parts += [_listed(record_of(db, run), sql.format(where), values) for run in away]
    merged = Listing({name: [value for part in parts for value in part.columns[name]] for name in parts[0].columns})
    runs_of = merged.columns["run_id"]
    return merged.taking(sorted(range(len(merged)), key=runs_of.__getitem__))


def _conditions(run_id: str | None, session: str | None, prefix: str = "") -> tuple[list[str], dict[str, Any]]:
    conditions, values = [], {}
    if run_id is not None:
        conditions.append(f"{prefix}run_id = :run")
        values["run"] = run_id
    if session is not None:
        among = "SELECT id FROM sessions WHERE id = :session OR name = :session"
        conditions.append(f"{prefix}session_id IN ({among})")
        values["session"] = session
    return conditions, values


def _listed(db: Database, sql: str, values: dict[str, Any]) -> Listing:
    with db.reading() as connection:
        cursor = connection.execute(sql, values)
        names, found = cursor.keys(), cursor.fetchall()
        columns = zip(*found, strict=True) if found else ((),) * len(names)
        return Listing(as_meant(connection, dict(zip(names, map(list, columns), strict=True))))


def _main_parts(summary: dict[str, Any]) -> dict[str, Any]:
    if not summary:
        return {}
    timing, cost, success = (summary.get(key) or {} for key in ("timing", "cost_summary", "success_metrics"))
    return {
        "duration_s": timing.get("duration_seconds"),
        "n_events": summary.get("total_events"),
        "n_messages": summary.get("messages_count"),
        "n_files": summary.get("files_generated"),
        "attempts": summary.get("attempts"),
        "tokens": cost.get("total_tokens"),
        "cost_usd": cost.get("total_cost_usd"),
        "errors": success.get("error_count"),
        "completion_rate": success.get("completion_rate"),
        "event_types": summary.get("event_types"),
        "agent_calls": summary.get("agent_call_counts"),
        "files_by_type": summary.get("files_by_type"),
        "time_by_agent": timing.get("agent_time_breakdown"),
        "cost_by_agent": cost.get("by_agent"),
    }
