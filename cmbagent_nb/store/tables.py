"""Defines the tables of the record as SQLModel classes: the one definition of the schema.

| rule | |
|---|---|
| ids | UUIDv7 text made by us, or integers made by the database where only order counts |
| ``node_id`` | the id that people see, such as ``step_1``; the key of a node is (run_id, node_id) |
| times | seconds since the epoch, UTC |
| JSON | text written by ``to_json``, in the columns that ``columns.JSON`` names |
| deleting a run | deletes its rows everywhere; a skill made from it stays |
| texts | ordered by their code points on every database |

The classes are for the schema and for reading single objects; rows are written by the writer and
read as frames without them. After a change here: a new file in ``migrations/versions``.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel


class Table(SQLModel, registry=registry()):
    """The base of our tables, with metadata of its own: tables of a user's notebook stay apart."""


_ID = String(36).with_variant(String(36, collation="C"), "postgresql")
_TEXT = Text().with_variant(Text(collation="C"), "postgresql")
_COUNT = BigInteger().with_variant(Integer(), "sqlite")  # SQLite counts up in INTEGER only, which has 64 bits there


def _key() -> Any:
    return Field(sa_column=Column(_ID, primary_key=True))


def _number() -> Any:
    """A key that the database counts up."""
    return Field(default=None, sa_column=Column(_COUNT, primary_key=True, autoincrement=True))


def _link(target: str, *, required: bool = False, on_delete: str = "CASCADE", index: bool = True) -> Any:
    key = ForeignKey(target, ondelete=on_delete)
    return Field(default=None, sa_column=Column(_ID, key, nullable=not required, index=index))


def _run() -> Any:
    """The run that a row belongs to; each table has an index that begins with it."""
    return _link("workflow_runs.id", required=True, index=False)


def _event() -> Any:
    return _link("execution_events.id", on_delete="SET NULL")


def _id() -> Any:
    """An id that is kept for reading and not enforced."""
    return Field(default=None, sa_column=Column(_ID, nullable=True))


def _text(*, required: bool = False, default: str | None = None) -> Any:
    return Field(default=default, sa_column=Column(_TEXT, nullable=not required, server_default=default))


def _integer(*, required: bool = False, default: int | None = None) -> Any:
    given = None if default is None else str(default)
    return Field(default=default, sa_column=Column(Integer, nullable=not required, server_default=given))


def _big() -> Any:
    """A whole number that another system made up: a size, a process id, an exit status of Windows."""
    return Field(default=None, sa_column=Column(BigInteger, nullable=True))


def _real(*, required: bool = False) -> Any:
    return Field(default=None, sa_column=Column(Float, nullable=not required))


def _flag() -> Any:
    return Field(default=False, sa_column=Column(Boolean, nullable=False, server_default=false()))


class Session(Table, table=True):
    """A named scope in a workspace."""

    __tablename__ = "sessions"
    __table_args__ = (Index("ix_sessions_name", "name"),)
    id: str = _key()
    user_id: str | None = _text()
    name: str = _text(required=True)
    status: str = _text(required=True, default="active")
    created_at: float = _real(required=True)
    last_active_at: float | None = _real()
    resource_limits: str | None = _text()
    meta: str | None = _text()


class Project(Table, table=True):
    """A group of runs within a session."""

    __tablename__ = "projects"
    id: str = _key()
    session_id: str = _link("sessions.id", required=True)
    name: str = _text(required=True)
    description: str | None = _text()
    created_at: float = _real(required=True)
    meta: str | None = _text()


class WorkflowRun(Table, table=True):
    """One execution of a task."""

    __tablename__ = "workflow_runs"
    __table_args__ = (
        Index("ix_workflow_runs_session_id_created_at", "session_id", "created_at"),
        Index("ix_workflow_runs_created_at", "created_at"),
        Index("ix_workflow_runs_status", "status"),
        Index("ix_workflow_runs_name", "name"),
    )
    id: str = _key()
    session_id: str = _link("sessions.id", required=True, index=False)
    project_id: str | None = _link("projects.id", on_delete="SET NULL")
    name: str | None = _text()
    mode: str = _text(required=True)
    agent: str | None = _text()
    model: str | None = _text()
    model_source: str | None = _text()
    status: str = _text(required=True, default="draft")
    task_description: str | None = _text()
    created_at: float = _real(required=True)
    started_at: float | None = _real()
    ended_at: float | None = _real()
    last_heartbeat_at: float | None = _real()
    work_dir: str | None = _text()
    owner: str | None = _text()
    error: str | None = _text()
    result: str | None = _text()
    plan: str | None = _text()
    # No foreign key: a skill refers to its source run, and a circle of keys cannot be made portably.
    skill_id: str | None = _id()
    branch_parent_id: str | None = _link("workflow_runs.id", on_delete="SET NULL")
    is_branch: bool = _flag()
    branch_depth: int = _integer(required=True, default=0)
    checkpoint_frequency_minutes: float | None = _real()
    meta: str | None = _text()
    # What it has spent, since it has ended; NULL while it may spend more (see store/totals.py).
    total_calls: int | None = _integer()
    total_tokens: int | None = _integer()
    total_cost_usd: float | None = _real()
    total_unknown_costs: int | None = _integer()


class Lease(Table, table=True):
    """The process that owns a run: no other writes the run's statuses."""

    __tablename__ = "leases"
    run_id: str = Field(sa_column=Column(_ID, ForeignKey("workflow_runs.id", ondelete="CASCADE"), primary_key=True))
    owner: str = _text(required=True)
    heartbeat_at: float = _real(required=True)


class Command(Table, table=True):
    """A request of another process to a run's owner: to cancel it, to take a gate's answer."""

    __tablename__ = "commands"
    __table_args__ = (
        Index("ix_commands_run_id", "run_id"),
        Index("ix_commands_handled_at", "handled_at"),
    )
    id: str = _key()
    run_id: str = _run()
    command: str = _text(required=True)
    arguments: str | None = _text()
    origin: str | None = _text()
    created_at: float = _real(required=True)
    handled_at: float | None = _real()
    outcome: str | None = _text()


class WorkflowStep(Table, table=True):
    """A step of a run's plan."""

    __tablename__ = "workflow_steps"
    __table_args__ = (Index("ix_workflow_steps_run_id_step_number", "run_id", "step_number"),)
    id: str = _key()
    run_id: str = _run()
    session_id: str | None = _id()
    node_id: str | None = _text()
    step_number: int = _integer(required=True, default=0)
    title: str | None = _text()
    agent: str | None = _text()
    goal: str | None = _text()
    instructions: str | None = _text()
    summary: str | None = _text()
    status: str = _text(required=True, default="pending")
    depends_on: str | None = _text()
    expected_outputs: str | None = _text()
    attempts: int = _integer(required=True, default=0)
    progress_percentage: float | None = _real()
    agent_transitions: str | None = _text()
    intermediate_artifacts: str | None = _text()
    inputs: str | None = _text()
    outputs: str | None = _text()
    error: str | None = _text()
    started_at: float | None = _real()
    ended_at: float | None = _real()
    meta: str | None = _text()


class DagNode(Table, table=True):
    """A vertex of a run's graph."""

    __tablename__ = "dag_nodes"
    __table_args__ = (
        UniqueConstraint("run_id", "node_id", name="uq_dag_nodes_run_id_node_id"),
        Index("ix_dag_nodes_run_id_order_index", "run_id", "order_index"),
    )
    id: str = _key()
    run_id: str = _run()
    session_id: str | None = _id()
    node_id: str = _text(required=True)
    parent_node_id: str | None = _text()
    node_type: str = _text(required=True)
    title: str | None = _text()
    agent: str | None = _text()
    status: str = _text(required=True, default="pending")
    order_index: int = _integer(required=True, default=0)
    depth: int = _integer(required=True, default=0)
    started_at: float | None = _real()
    ended_at: float | None = _real()
    meta: str | None = _text()


class DagEdge(Table, table=True):
    """A dependency between two nodes of a run's graph, by their node ids."""

    __tablename__ = "dag_edges"
    __table_args__ = (Index("ix_dag_edges_run_id", "run_id"),)
    id: int | None = _number()
    run_id: str = _run()
    from_node_id: str = _text(required=True)
    to_node_id: str = _text(required=True)
    dependency_type: str = _text(required=True, default="sequential")
    condition: str | None = _text()


class StepAttempt(Table, table=True):
    """One try at a step, with the process that ran its code."""

    __tablename__ = "step_attempts"
    __table_args__ = (Index("ix_step_attempts_run_id_node_id_attempt", "run_id", "node_id", "attempt"),)
    id: str = _key()
    run_id: str = _run()
    node_id: str | None = _text()
    attempt: int = _integer(required=True, default=1)
    pid: int | None = _big()
    process_started_at: float | None = _real()
    folder: str | None = _text()
    status: str = _text(required=True, default="running")
    exit_code: int | None = _big()
    started_at: float | None = _real()
    ended_at: float | None = _real()
    error_category: str | None = _text()
    error: str | None = _text()
    meta: str | None = _text()


class Checkpoint(Table, table=True):
    """A place in a run's journal from which the run can be resumed or inspected."""

    __tablename__ = "checkpoints"
    __table_args__ = (Index("ix_checkpoints_run_id_journal_position", "run_id", "journal_position"),)
    id: str = _key()
    run_id: str = _run()
    session_id: str | None = _id()
    node_id: str | None = _text()
    checkpoint_type: str = _text(required=True)
    name: str | None = _text()
    journal_position: int | None = _big()
    created_at: float = _real(required=True)
    meta: str | None = _text()


class ExecutionEvent(Table, table=True):
    """One thing that happened: a row when it starts, the same row updated when it ends."""

    __tablename__ = "execution_events"
    __table_args__ = (
        Index("ix_execution_events_run_id_execution_order", "run_id", "execution_order"),
        Index("ix_execution_events_run_id_node_id_execution_order", "run_id", "node_id", "execution_order"),
        # An action gets its subtype when it ends: it is entered then, once, and not moved.
        Index(
            "ix_execution_events_event_type_event_subtype",
            "event_type",
            "event_subtype",
            sqlite_where=text("event_subtype IS NOT NULL"),
            postgresql_where=text("event_subtype IS NOT NULL"),
        ),
        Index("ix_execution_events_session_id_started_at", "session_id", "started_at"),
    )
    id: str = _key()
    run_id: str = _run()
    session_id: str | None = _id()
    node_id: str | None = _text()
    parent_event_id: str | None = _event()
    event_type: str = _text(required=True)
    event_subtype: str | None = _text()
    agent_name: str | None = _text()
    agent_role: str | None = _text()
    attempt: int | None = _integer()
    status: str = _text(required=True, default="running")
    started_at: float = _real(required=True)
    ended_at: float | None = _real()
    duration_ms: float | None = _real()
    inputs: str | None = _text()
    outputs: str | None = _text()
    error: str | None = _text()
    meta: str | None = _text()
    execution_order: int = _integer(required=True, default=0)
    depth: int = _integer(required=True, default=0)


class Message(Table, table=True):
    """A message from one agent to another."""

    __tablename__ = "messages"
    __table_args__ = (Index("ix_messages_run_id_id", "run_id", "id"),)
    id: int | None = _number()
    run_id: str = _run()
    session_id: str | None = _id()
    node_id: str | None = _text()
    event_id: str | None = _event()
    sender: str | None = _text()
    recipient: str | None = _text()
    content: str | None = _text()
    agent_role: str | None = _text()
    reasoning: str | None = _text()
    tool_calls: str | None = _text()
    code_generated: str | None = _text()
    execution_result: str | None = _text()
    created_at: float = _real(required=True)
    duration_ms: float | None = _real()
    tokens: int | None = _integer()
    meta: str | None = _text()


class File(Table, table=True):
    """A file that a run made, in one version."""

    __tablename__ = "files"
    __table_args__ = (Index("ix_files_run_id_file_path_version", "run_id", "file_path", "version"),)
    id: str = _key()
    run_id: str = _run()
    session_id: str | None = _id()
    node_id: str | None = _text()
    event_id: str | None = _event()
    file_path: str = _text(required=True)
    file_type: str = _text(required=True, default="other")
    mime: str | None = _text()
    size_bytes: int | None = _big()
    content_hash: str | None = _text()
    version: int = _integer(required=True, default=1)
    parent_file_id: str | None = _link("files.id", on_delete="SET NULL")
    created_by_agent: str | None = _text()
    generating_code_hash: str | None = _text()
    workflow_phase: str | None = _text()
    is_final_output: bool = _flag()
    priority: str | None = _text()
    created_at: float = _real(required=True)
    meta: str | None = _text()


class ModelReply(Table, table=True):
    """A reply of a model as it came: the tape from which a run can be gone through again."""

    __tablename__ = "model_replies"
    __table_args__ = (
        Index("ix_model_replies_run_id_node_id_attempt_ordinal", "run_id", "node_id", "attempt", "ordinal"),
    )
    id: str = _key()
    run_id: str = _run()
    node_id: str | None = _text()
    event_id: str | None = _event()
    attempt: int = _integer(required=True, default=1)
    ordinal: int = _integer(required=True, default=1)
    agent_name: str | None = _text()
    request_hash: str | None = _text()
    request: str | None = _text()
    reply: str | None = _text()
    usage: str | None = _text()
    masked: bool = _flag()
    created_at: float = _real(required=True)


class CostRecord(Table, table=True):
    """The tokens and the cost of one model call; a cost that is not known is NULL."""

    __tablename__ = "cost_records"
    __table_args__ = (Index("ix_cost_records_run_id_node_id", "run_id", "node_id"),)
    id: int | None = _number()
    run_id: str = _run()
    session_id: str | None = _id()
    node_id: str | None = _text()
    event_id: str | None = _event()
    provider: str | None = _text()
    model: str | None = _text()
    agent_name: str | None = _text()
    prompt_tokens: int = _integer(required=True, default=0)
    completion_tokens: int = _integer(required=True, default=0)
    total_tokens: int = _integer(required=True, default=0)
    cached_tokens: int = _integer(required=True, default=0)
    cost_usd: float | None = _real()
    created_at: float = _real(required=True)


class ApprovalRequest(Table, table=True):
    """A gate: a place where a run waits for a person."""

    __tablename__ = "approval_requests"
    __table_args__ = (
        Index("ix_approval_requests_status_created_at", "status", "created_at"),
        Index("ix_approval_requests_run_id_created_at", "run_id", "created_at"),
    )
    id: str = _key()
    run_id: str = _run()
    session_id: str | None = _id()
    node_id: str | None = _text()
    event_id: str | None = _event()
    approval_type: str = _text(required=True)
    context: str | None = _text()
    status: str = _text(required=True, default="pending")
    resolution: str | None = _text()
    result: str | None = _text()
    user_feedback: str | None = _text()
    resolved_by: str | None = _text()
    created_at: float = _real(required=True)
    resolved_at: float | None = _real()
    expires_at: float | None = _real()
    meta: str | None = _text()


class StateHistory(Table, table=True):
    """A change of status of a run, a step or a node."""

    __tablename__ = "state_history"
    __table_args__ = (
        Index("ix_state_history_run_id_id", "run_id", "id"),
        Index("ix_state_history_entity_type_entity_id", "entity_type", "entity_id"),
    )
    id: int | None = _number()
    entity_type: str = _text(required=True)
    entity_id: str = _text(required=True)
    run_id: str = _run()
    session_id: str | None = _id()
    from_state: str | None = _text()
    to_state: str = _text(required=True)
    transition_reason: str | None = _text()
    transitioned_by: str | None = _text()
    created_at: float = _real(required=True)
    meta: str | None = _text()


class Skill(Table, table=True):
    """A verified, versioned, parameterized notebook made from a run."""

    __tablename__ = "skills"
    __table_args__ = (
        UniqueConstraint("name", "version", name="uq_skills_name_version"),
        Index("ix_skills_tags", "tags"),
        Index("ix_skills_status_success_count", "status", "success_count"),
    )
    id: str = _key()
    name: str = _text(required=True)
    version: int = _integer(required=True, default=1)
    parent_skill_id: str | None = _link("skills.id", on_delete="SET NULL")
    session_id: str | None = _id()
    description: str | None = _text()
    tags: str | None = _text()
    task_pattern: str | None = _text()
    input_schema: str | None = _text()
    output_schema: str | None = _text()
    preconditions: str | None = _text()
    postconditions: str | None = _text()
    source_run_id: str | None = _link("workflow_runs.id", on_delete="SET NULL")
    source_step_range: str | None = _text()
    dag_template: str | None = _text()
    agent_sequence: str | None = _text()
    context_requirements: str | None = _text()
    notebook: str | None = _text()
    notebook_hash: str | None = _text()
    parameters: str | None = _text()
    status: str = _text(required=True, default="draft")
    trusted: bool = _flag()
    visibility: str = _text(required=True, default="private")
    task_embedding: bytes | None = Field(default=None, sa_column=Column(LargeBinary, nullable=True))
    embedding_model: str | None = _text()
    success_count: int = _integer(required=True, default=0)
    failure_count: int = _integer(required=True, default=0)
    usage_count: int = _integer(required=True, default=0)
    avg_execution_time_s: float | None = _real()
    avg_cost_usd: float | None = _real()
    verification: str | None = _text()
    created_at: float = _real(required=True)
    last_used_at: float | None = _real()
    meta: str | None = _text()


class SkillExecution(Table, table=True):
    """One execution of a skill, with its parameters and what it made."""

    __tablename__ = "skill_executions"
    __table_args__ = (UniqueConstraint("skill_id", "run_id", name="uq_skill_executions_skill_id_run_id"),)
    id: str = _key()
    skill_id: str = _link("skills.id", required=True, index=False)
    run_id: str | None = _link("workflow_runs.id", on_delete="SET NULL")
    status: str = _text(required=True, default="running")
    started_at: float = _real(required=True)
    ended_at: float | None = _real()
    duration_s: float | None = _real()
    cost_usd: float | None = _real()
    parameters: str | None = _text()
    adapted: bool = _flag()
    adaptations: str | None = _text()
    adaptation_reason: str | None = _text()
    success: bool | None = Field(default=None, sa_column=Column(Boolean, nullable=True))
    error: str | None = _text()
    task_description: str | None = _text()
    context_diff: str | None = _text()
    notebook: str | None = _text()
    work_dir: str | None = _text()
    outputs: str | None = _text()
    metrics: str | None = _text()
    meta: str | None = _text()
    session_id: str | None = _id()
    mode: str | None = _text()
    trial_id: str | None = _id()
    sweep_id: str | None = Field(default=None, sa_column=Column(_ID, nullable=True, index=True))


class SkillArtifact(Table, table=True):
    """Something that a skill consists of or makes: code, a plot's template, a schema, an asset."""

    __tablename__ = "skill_artifacts"
    id: str = _key()
    skill_id: str = _link("skills.id", required=True)
    artifact_type: str = _text(required=True)
    name: str = _text(required=True)
    path: str | None = _text()
    content: str | None = _text()
    language: str | None = _text()
    is_template: bool = _flag()
    template_variables: str | None = _text()
    size_bytes: int | None = _big()
    checksum: str | None = _text()


class SkillMatch(Table, table=True):
    """A task that was matched with skills, the matches, and the outcome."""

    __tablename__ = "skill_matches"
    id: str = _key()
    run_id: str | None = _link("workflow_runs.id", on_delete="SET NULL")
    session_id: str | None = _id()
    skill_id: str | None = _link("skills.id", on_delete="SET NULL")
    task_description: str | None = _text()
    mode: str | None = _text()
    status: str = _text(required=True)
    score: float | None = _real()
    candidates: str | None = _text()
    duration_ms: float | None = _real()
    created_at: float = _real(required=True)
    meta: str | None = _text()


class SkillTrial(Table, table=True):
    """A comparison of two versions of a skill: the split of executions between them, and the outcome."""

    __tablename__ = "skill_trials"
    id: str = _key()
    name: str = _text(required=True)
    skill_id: str = _link("skills.id", required=True)
    other_skill_id: str = _link("skills.id", required=True)
    share: float = _real(required=True)
    status: str = _text(required=True)
    arguments: str | None = _text()
    result: str | None = _text()
    started_at: float = _real(required=True)
    ended_at: float | None = _real()
    meta: str | None = _text()


class SkillSource(Table, table=True):
    """A folder or repository that skills are taken from."""

    __tablename__ = "skill_sources"
    __table_args__ = (UniqueConstraint("name", name="uq_skill_sources_name"),)
    id: str = _key()
    name: str = _text(required=True)
    kind: str = _text(required=True)
    location: str = _text(required=True)
    trusted: bool = _flag()
    created_at: float = _real(required=True)
    synced_at: float | None = _real()
    meta: str | None = _text()
