"""Derives a column's type from its name, so that rows are read and written without heavy imports.

| rule | |
|---|---|
| one name, one kind | a name in :data:`JSON` holds JSON in every table that has it |
| times | every ``*_at`` column holds seconds since the epoch, UTC, as a float |
| never masked | ids, hashes, paths and words of our own (:func:`is_verbatim`) |

The tables themselves are in :mod:`cmbagent_nb.store.tables`; a test holds the two together.
"""

from __future__ import annotations

from functools import cache

#: Columns that hold JSON text written by ``to_json``.
JSON = frozenset(
    {
        "adaptations", "agent_sequence", "agent_transitions", "arguments", "candidates", "context", "context_diff",
        "context_requirements", "dag_template", "depends_on", "execution_result", "expected_outputs",
        "input_schema", "inputs", "intermediate_artifacts", "meta", "metrics", "output_schema", "outputs",
        "parameters", "plan", "postconditions", "preconditions", "reply", "request", "resource_limits",
        "result", "source_step_range", "tags", "template_variables", "tool_calls", "usage", "verification",
    }
)  # fmt: skip

#: Columns that hold yes or no.
BOOLEAN = frozenset({"adapted", "is_branch", "is_final_output", "is_template", "masked", "success", "trusted"})

#: Columns that hold whole numbers, besides the keys of :data:`COUNTED` tables.
INTEGER = frozenset(
    {
        "attempt", "attempts", "branch_depth", "cached_tokens", "completion_tokens", "depth", "execution_order",
        "exit_code", "failure_count", "journal_position", "order_index", "ordinal", "pid", "prompt_tokens",
        "size_bytes", "step_number", "success_count", "tokens",
        "total_calls", "total_tokens", "total_unknown_costs", "usage_count", "version",
    }
)  # fmt: skip

#: Columns that hold bytes.
BYTES = frozenset({"task_embedding"})

#: Tables whose keys the database counts up.
COUNTED = frozenset({"cost_records", "dag_edges", "messages", "state_history"})

_REAL = frozenset(
    {
        "avg_cost_usd", "avg_execution_time_s", "checkpoint_frequency_minutes", "cost_usd", "duration_ms",
        "duration_s", "progress_percentage", "score", "share", "total_cost_usd",
    }
)  # fmt: skip

#: The tables in an order in which rows can be inserted: what is referred to comes first.
TABLES = (
    "sessions", "projects", "workflow_runs", "leases", "commands", "workflow_steps", "dag_nodes", "dag_edges",
    "step_attempts", "checkpoints", "execution_events", "messages", "files", "model_replies", "cost_records",
    "approval_requests", "state_history", "skills", "skill_executions", "skill_artifacts", "skill_matches",
    "skill_trials", "skill_sources",
)  # fmt: skip

#: The place of each table in :data:`TABLES`.
RANK = {name: place for place, name in enumerate(TABLES)}

#: Links to an event, which a row can do without: a row whose event is missing is kept without it.
SOFT_LINKS = ("event_id", "parent_event_id")

_VERBATIM = frozenset(
    {
        "id", "agent", "agent_name", "agent_role", "approval_type", "artifact_type", "checksum", "created_by_agent",
        "dependency_type", "entity_type", "event_subtype", "event_type", "file_type", "folder", "from_state", "mime",
        "mode", "model_source", "node_type", "notebook", "owner", "path", "status", "to_state", "work_dir",
    }
)  # fmt: skip


@cache
def is_verbatim(name: str) -> bool:
    """Tell whether a column is stored as it is: masking an id, a hash or a path would break a link.

    >>> is_verbatim("event_id"), is_verbatim("content_hash"), is_verbatim("content")
    (True, True, False)
    """
    return name in _VERBATIM or name.endswith(("_id", "_hash", "_path"))


@cache
def is_real(name: str) -> bool:
    """Tell whether a column holds a number with a fraction, such as a time.

    >>> is_real("started_at"), is_real("cost_usd"), is_real("attempt")
    (True, True, False)
    """
    return name in _REAL or name.endswith("_at")


def key_of(table: str) -> str:
    """Return the name of a table's primary key."""
    return "run_id" if table == "leases" else "id"
