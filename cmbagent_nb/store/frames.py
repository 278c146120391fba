"""Returns the record as pandas DataFrames: the tables' columns, JSON as values, times as UTC datetimes.

| rule | |
|---|---|
| names | the columns of the tables; what is added says so below |
| times | ``*_at`` is ``datetime64[ns, UTC]``; NaT where there is none |
| whole numbers with gaps | ``Int64`` |
| nothing found | a frame with its columns and no rows |
| ``run_id`` | one run; ``session``: the runs of a session, by its id or name; neither: all |
| a run that was archived | is read from its archive, also among all runs |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import CMBAgentError, StoreError
from cmbagent_nb.store.archived import archived_runs, record_of
from cmbagent_nb.store.columns import BOOLEAN, JSON
from cmbagent_nb.store.conflicts import rivals
from cmbagent_nb.store.database import Database, as_meant
from cmbagent_nb.store.files import is_missing
from cmbagent_nb.store.json import from_json_all
from cmbagent_nb.store.node_summary import node_summary
from cmbagent_nb.store.totals import TOTALS

if TYPE_CHECKING:
    import pandas as pd

#: Columns of whole numbers that can be missing.
_INTEGERS = frozenset(
    {"attempt", "exit_code", "max_attempts", "n_events", "n_files", "n_messages", "pid", "size_bytes", "tokens"}
)

#: What :func:`nodes` adds to the table: the main parts of a node's summary.
SUMMARY_COLUMNS = (
    "duration_s", "n_events", "n_messages", "n_files", "attempts", "tokens", "cost_usd", "errors", "completion_rate",
    "event_types", "agent_calls", "files_by_type", "time_by_agent", "cost_by_agent",
)  # fmt: skip


def events(db: Database, run_id: str | None = None, session: str | None = None) -> pd.DataFrame:
    """Return the events, in the order in which they began."""
    return _table(db, "execution_events", "execution_order, id", run_id, session)


def messages(db: Database, run_id: str | None = None, session: str | None = None) -> pd.DataFrame:
    """Return what the agents said to one another."""
    return _table(db, "messages", "id", run_id, session)


def files(db: Database, run_id: str | None = None, session: str | None = None) -> pd.DataFrame:
    """Return the files that were made, every version of them; those not at their place any more are ``missing``.

    ``conflict`` names the steps that published the same path, independently of the step that made the file: the newest
    version is the one at the path. ``source`` is where each version was made, in the run's work dir, and stays.
    """
    frame = _table(db, "files", "created_at, id", run_id, session)
    folders = {row["id"]: row["work_dir"] for row in db.rows("SELECT id, work_dir FROM workflow_runs")}
    known = zip(frame["run_id"], frame["file_path"], strict=True)
    meta = [item if isinstance(item, dict) else {} for item in frame["meta"]]
    return frame.assign(
        missing=[is_missing(folders.get(run), path) for run, path in known],
        conflict=_objects([", ".join(rivals(item)) or None for item in meta]),
        source=_objects([item.get("source") for item in meta]),
    )


def costs(db: Database, run_id: str | None = None, session: str | None = None) -> pd.DataFrame:
    """Return tokens and cost of each model call; a cost that is not known is missing, not zero."""
    return _table(db, "cost_records", "id", run_id, session)


def steps(db: Database, run_id: str | None = None, session: str | None = None) -> pd.DataFrame:
    """Return the steps of the plan."""
    return _table(db, "workflow_steps", "step_number, id", run_id, session)


def history(db: Database, run_id: str | None = None, session: str | None = None) -> pd.DataFrame:
    """Return every change of status, in order."""
    return _table(db, "state_history", "id", run_id, session)


def checkpoints(db: Database, run_id: str | None = None, session: str | None = None) -> pd.DataFrame:
    """Return the places from which a run can be looked at as it stood."""
    return _table(db, "checkpoints", "journal_position, id", run_id, session)


def decisions(db: Database, run_id: str | None = None, session: str | None = None) -> pd.DataFrame:
    """Return the gates with their answers, and what was asked as ``title`` and ``options``."""
    frame = _table(db, "approval_requests", "created_at, id", run_id, session)
    asked = [item if isinstance(item, dict) else {} for item in frame["context"]]
    place = list(frame.columns).index("context")
    frame.insert(place, "title", _objects([item.get("title") for item in asked]))
    options = [[option.get("id") for option in item.get("options") or ()] for item in asked]
    frame.insert(place + 1, "options", _objects(options))
    return frame


def nodes(db: Database, run_id: str | None = None, session: str | None = None) -> pd.DataFrame:
    """Return the nodes of the graph, with the main parts of their summaries as columns.

    A node that has ended has its summary in ``meta``; for a run's other nodes it is computed now.
    """
    frame = _table(db, "dag_nodes", "order_index, depth, id", run_id, session)
    summaries = [(meta or {}).get("execution_summary") if isinstance(meta, dict) else None for meta in frame["meta"]]
    if run_id is not None and not all(summaries):
        with record_of(db, run_id).reading() as connection:
            summaries = [
                held or node_summary(connection, run_id, node)
                for held, node in zip(summaries, frame["node_id"], strict=True)
            ]
    parts = [_main_parts(summary or {}) for summary in summaries]
    for name in SUMMARY_COLUMNS:
        frame[name] = _series(name, [part.get(name) for part in parts])
    return frame


def runs(
    db: Database, session: str | None = None, *, status: str | None = None, mode: str | None = None
) -> pd.DataFrame:
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
    return _frame(db, sql, values).drop(columns=list(TOTALS))


def skills(db: Database) -> pd.DataFrame:
    """Return the skills, all versions of them."""
    return _frame(db, "SELECT * FROM skills ORDER BY name, version", {})


def skill_executions(db: Database, skill_id: str | None = None, *, name: str | None = None) -> pd.DataFrame:
    """Return the executions of one version of a skill, of all versions of a name, or of all skills."""
    where, values = "", {}
    if skill_id:
        where, values = "WHERE skill_id = :skill", {"skill": skill_id}
    elif name:
        where, values = "WHERE skill_id IN (SELECT id FROM skills WHERE name = :name)", {"name": name}
    return _frame(db, f"SELECT * FROM skill_executions {where} ORDER BY started_at, id", values)


# -- making frames -------------------------------------------------------------------------


def _table(db: Database, table: str, order: str, run_id: str | None, session: str | None) -> pd.DataFrame:
    conditions, values = _conditions(run_id, session)
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    if run_id is not None:
        return _frame(record_of(db, run_id), f"SELECT * FROM {table} {where} ORDER BY {order}", values)
    sql = f"SELECT * FROM {table} {{}} ORDER BY run_id, {order}"
    away = archived_runs(db)
    if not away:
        return _frame(db, sql.format(where), values)
    import pandas as pd

    here = " AND ".join([*conditions, f"run_id NOT IN ({', '.join(repr(str(run)) for run in away)})"])
    parts = [_frame(db, sql.format(f"WHERE {here}"), values)]
    parts += [_frame(record_of(db, run), sql.format(where), values) for run in away]
    held = [part for part in parts if len(part)]
    if len(held) < 2:
        return (held or parts)[0]
    return pd.concat(held).sort_values("run_id", kind="stable", ignore_index=True)


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


def _frame(db: Database, sql: str, values: dict[str, Any]) -> pd.DataFrame:
    with db.reading() as connection:
        cursor = connection.execute(sql, values)
        names = list(cursor.keys())
        found = cursor.cursor.fetchall() if cursor.cursor is not None else []
        columns = list(zip(*found, strict=True)) if found else [()] * len(names)
        meant = as_meant(connection, dict(zip(names, map(list, columns), strict=True)))
    return frame_of(names, list(meant.values()))


def frame_of(names: Sequence[str], columns: Sequence[Sequence[Any]]) -> pd.DataFrame:
    """Make a frame of columns as they are stored."""
    import pandas as pd

    data = {}
    for name, column in zip(names, columns, strict=True):
        try:
            data[name] = _series(name, column)
        except CMBAgentError:
            raise
        except (TypeError, ValueError) as error:  # a value of another type than its column's
            raise StoreError(
                f"a value of {name} in the record is damaged",
                "Run `cmbagent doctor --repair`: it takes what is damaged from the journals of the runs.",
                damaged=True,
            ) from error
    return pd.DataFrame(data, columns=list(names))


def _series(name: str, values: Sequence[Any]) -> Any:
    """Return the values of a column with the type that its name calls for."""
    if name.endswith("_at"):
        return _times(values)
    if name in JSON:
        return _objects(from_json_all(values))
    if name in BOOLEAN:
        return _objects([None if value is None else bool(value) for value in values], boolean=True)
    if name in _INTEGERS:
        import pandas as pd

        return pd.array(list(values), dtype="Int64")
    if values and isinstance(next((value for value in values if value is not None), None), dict | list):
        return _objects(list(values))
    return list(values)


def _objects(values: list[Any], *, boolean: bool = False) -> Any:
    import pandas as pd

    if boolean:
        return pd.array(values, dtype="boolean") if None in values else pd.array(values, dtype=bool)
    return pd.Series(values, dtype=object)


def _times(values: Sequence[Any]) -> Any:
    import numpy as np
    import pandas as pd

    seconds = np.array(values, dtype=float)
    times = np.full(len(seconds), np.datetime64("NaT"), dtype="datetime64[us]")
    known = np.isfinite(seconds)
    times[known] = np.round(seconds[known] * 1e6).astype("int64").astype("datetime64[us]")
    return pd.DatetimeIndex(times.astype("datetime64[ns]")).tz_localize("UTC")


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
