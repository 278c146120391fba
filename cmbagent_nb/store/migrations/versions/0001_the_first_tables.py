"""The first tables: sessions, runs and all that belongs to them, skills and their executions."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# PostgreSQL orders texts by the language of its database, SQLite by their code points: both do the latter here.
ID = sa.String(36).with_variant(sa.String(36, collation="C"), "postgresql")
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
COUNT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

TABLES = (
    "sessions",
    "projects",
    "workflow_runs",
    "commands",
    "dag_edges",
    "dag_nodes",
    "execution_events",
    "leases",
    "skills",
    "state_history",
    "step_attempts",
    "workflow_steps",
    "approval_requests",
    "cost_records",
    "files",
    "messages",
    "model_replies",
    "skill_executions",
)


def upgrade() -> None:
    op.create_table(
        "sessions",
        sa.Column("id", ID, nullable=False),
        sa.Column("user_id", TEXT, nullable=True),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("status", TEXT, server_default="active", nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("last_active_at", sa.Float(), nullable=True),
        sa.Column("resource_limits", TEXT, nullable=True),
        sa.Column("meta", TEXT, nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_sessions_name", "sessions", ["name"])
    op.create_table(
        "projects",
        sa.Column("id", ID, nullable=False),
        sa.Column("session_id", ID, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("description", TEXT, nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("meta", TEXT, nullable=True),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_projects_session_id", "projects", ["session_id"])
    op.create_table(
        "workflow_runs",
        sa.Column("id", ID, nullable=False),
        sa.Column("session_id", ID, nullable=False),
        sa.Column("project_id", ID, nullable=True),
        sa.Column("name", TEXT, nullable=True),
        sa.Column("mode", TEXT, nullable=False),
        sa.Column("agent", TEXT, nullable=True),
        sa.Column("model", TEXT, nullable=True),
        sa.Column("model_source", TEXT, nullable=True),
        sa.Column("status", TEXT, server_default="draft", nullable=False),
        sa.Column("task_description", TEXT, nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("started_at", sa.Float(), nullable=True),
        sa.Column("ended_at", sa.Float(), nullable=True),
        sa.Column("last_heartbeat_at", sa.Float(), nullable=True),
        sa.Column("work_dir", TEXT, nullable=True),
        sa.Column("owner", TEXT, nullable=True),
        sa.Column("error", TEXT, nullable=True),
        sa.Column("result", TEXT, nullable=True),
        sa.Column("plan", TEXT, nullable=True),
        sa.Column("skill_id", ID, nullable=True),
        sa.Column("branch_parent_id", ID, nullable=True),
        sa.Column("is_branch", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("branch_depth", sa.Integer(), server_default="0", nullable=False),
        sa.Column("checkpoint_frequency_minutes", sa.Float(), nullable=True),
        sa.Column("meta", TEXT, nullable=True),
        sa.ForeignKeyConstraint(["branch_parent_id"], ["workflow_runs.id"], ondelete="SET NULL"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], ondelete="SET NULL"),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_workflow_runs_branch_parent_id", "workflow_runs", ["branch_parent_id"])
    op.create_index("ix_workflow_runs_created_at", "workflow_runs", ["created_at"])
    op.create_index("ix_workflow_runs_name", "workflow_runs", ["name"])
    op.create_index("ix_workflow_runs_project_id", "workflow_runs", ["project_id"])
    op.create_index("ix_workflow_runs_session_id_created_at", "workflow_runs", ["session_id", "created_at"])
    op.create_index("ix_workflow_runs_status", "workflow_runs", ["status"])
    op.create_table(
        "commands",
        sa.Column("id", ID, nullable=False),
        sa.Column("run_id", ID, nullable=False),
        sa.Column("command", TEXT, nullable=False),
        sa.Column("arguments", TEXT, nullable=True),
        sa.Column("origin", TEXT, nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("handled_at", sa.Float(), nullable=True),
        sa.Column("outcome", TEXT, nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["workflow_runs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_commands_handled_at", "commands", ["handled_at"])
    op.create_index("ix_commands_run_id", "commands", ["run_id"])
    op.create_table(
        "dag_edges",
        sa.Column("id", COUNT, autoincrement=True, nullable=False),
        sa.Column("run_id", ID, nullable=False),
        sa.Column("from_node_id", TEXT, nullable=False),
        sa.Column("to_node_id", TEXT, nullable=False),
        sa.Column("dependency_type", TEXT, server_default="sequential", nullable=False),
        sa.Column("condition", TEXT, nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["workflow_runs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_dag_edges_run_id", "dag_edges", ["run_id"])
    op.create_table(
        "dag_nodes",
        sa.Column("id", ID, nullable=False),
        sa.Column("run_id", ID, nullable=False),
        sa.Column("session_id", ID, nullable=True),
        sa.Column("node_id", TEXT, nullable=False),
        sa.Column("parent_node_id", TEXT, nullable=True),
        sa.Column("node_type", TEXT, nullable=False),
        sa.Column("title", TEXT, nullable=True),
        sa.Column("agent", TEXT, nullable=True),
        sa.Column("status", TEXT, server_default="pending", nullable=False),
        sa.Column("order_index", sa.Integer(), server_default="0", nullable=False),
        sa.Column("depth", sa.Integer(), server_default="0", nullable=False),
        sa.Column("started_at", sa.Float(), nullable=True),
        sa.Column("ended_at", sa.Float(), nullable=True),
        sa.Column("meta", TEXT, nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["workflow_runs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("run_id", "node_id", name="uq_dag_nodes_run_id_node_id"),
    )
    op.create_index("ix_dag_nodes_run_id_order_index", "dag_nodes", ["run_id", "order_index"])
    op.create_table(
        "execution_events",
        sa.Column("id", ID, nullable=False),
        sa.Column("run_id", ID, nullable=False),
        sa.Column("session_id", ID, nullable=True),
        sa.Column("node_id", TEXT, nullable=True),
        sa.Column("parent_event_id", ID, nullable=True),
        sa.Column("event_type", TEXT, nullable=False),
        sa.Column("event_subtype", TEXT, nullable=True),
        sa.Column("agent_name", TEXT, nullable=True),
        sa.Column("agent_role", TEXT, nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=True),
        sa.Column("status", TEXT, server_default="running", nullable=False),
        sa.Column("started_at", sa.Float(), nullable=False),
        sa.Column("ended_at", sa.Float(), nullable=True),
        sa.Column("duration_ms", sa.Float(), nullable=True),
        sa.Column("inputs", TEXT, nullable=True),
        sa.Column("outputs", TEXT, nullable=True),
        sa.Column("error", TEXT, nullable=True),
        sa.Column("meta", TEXT, nullable=True),
        sa.Column("execution_order", sa.Integer(), server_default="0", nullable=False),
        sa.Column("depth", sa.Integer(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["parent_event_id"], ["execution_events.id"], ondelete="SET NULL"),
        sa.ForeignKeyConstraint(["run_id"], ["workflow_runs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_execution_events_event_type_event_subtype", "execution_events", ["event_type", "event_subtype"])
    op.create_index("ix_execution_events_parent_event_id", "execution_events", ["parent_event_id"])
    op.create_index("ix_execution_events_run_id_execution_order", "execution_events", ["run_id", "execution_order"])
    op.create_index(
        "ix_execution_events_run_id_node_id_execution_order",
        "execution_events",
        ["run_id", "node_id", "execution_order"],
    )
    op.create_index("ix_execution_events_session_id_started_at", "execution_events", ["session_id", "started_at"])
    op.create_table(
        "leases",
        sa.Column("run_id", ID, nullable=False),
        sa.Column("owner", TEXT, nullable=False),
        sa.Column("heartbeat_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["workflow_runs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id"),
    )
    op.create_table(
        "skills",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("parent_skill_id", ID, nullable=True),
        sa.Column("session_id", ID, nullable=True),
        sa.Column("description", TEXT, nullable=True),
        sa.Column("tags", TEXT, nullable=True),
        sa.Column("task_pattern", TEXT, nullable=True),
        sa.Column("input_schema", TEXT, nullable=True),
        sa.Column("output_schema", TEXT, nullable=True),
        sa.Column("preconditions", TEXT, nullable=True),
        sa.Column("postconditions", TEXT, nullable=True),
        sa.Column("source_run_id", ID, nullable=True),
        sa.Column("source_step_range", TEXT, nullable=True),
        sa.Column("dag_template", TEXT, nullable=True),
        sa.Column("agent_sequence", TEXT, nullable=True),
        sa.Column("context_requirements", TEXT, nullable=True),
        sa.Column("notebook", TEXT, nullable=True),
        sa.Column("notebook_hash", TEXT, nullable=True),
        sa.Column("parameters", TEXT, nullable=True),
        sa.Column("status", TEXT, server_default="draft", nullable=False),
        sa.Column("trusted", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("visibility", TEXT, server_default="private", nullable=False),
        sa.Column("task_embedding", sa.LargeBinary(), nullable=True),
        sa.Column("embedding_model", TEXT, nullable=True),
        sa.Column("success_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("failure_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("usage_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("avg_execution_time_s", sa.Float(), nullable=True),
        sa.Column("avg_cost_usd", sa.Float(), nullable=True),
        sa.Column("verification", TEXT, nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("last_used_at", sa.Float(), nullable=True),
        sa.Column("meta", TEXT, nullable=True),
        sa.ForeignKeyConstraint(["parent_skill_id"], ["skills.id"], ondelete="SET NULL"),
        sa.ForeignKeyConstraint(["source_run_id"], ["workflow_runs.id"], ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name", "version", name="uq_skills_name_version"),
    )
    op.create_index("ix_skills_parent_skill_id", "skills", ["parent_skill_id"])
    op.create_index("ix_skills_source_run_id", "skills", ["source_run_id"])
    op.create_index("ix_skills_status_success_count", "skills", ["status", "success_count"])
    op.create_index("ix_skills_tags", "skills", ["tags"])
    op.create_table(
        "state_history",
        sa.Column("id", COUNT, autoincrement=True, nullable=False),
        sa.Column("entity_type", TEXT, nullable=False),
        sa.Column("entity_id", TEXT, nullable=False),
        sa.Column("run_id", ID, nullable=False),
        sa.Column("session_id", ID, nullable=True),
        sa.Column("from_state", TEXT, nullable=True),
        sa.Column("to_state", TEXT, nullable=False),
        sa.Column("transition_reason", TEXT, nullable=True),
        sa.Column("transitioned_by", TEXT, nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("meta", TEXT, nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["workflow_runs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_state_history_entity_type_entity_id", "state_history", ["entity_type", "entity_id"])
    op.create_index("ix_state_history_run_id_id", "state_history", ["run_id", "id"])
    op.create_table(
        "step_attempts",
        sa.Column("id", ID, nullable=False),
        sa.Column("run_id", ID, nullable=False),
        sa.Column("node_id", TEXT, nullable=True),
        sa.Column("attempt", sa.Integer(), server_default="1", nullable=False),
        sa.Column("pid", sa.BigInteger(), nullable=True),
        sa.Column("process_started_at", sa.Float(), nullable=True),
        sa.Column("folder", TEXT, nullable=True),
        sa.Column("status", TEXT, server_default="running", nullable=False),
        sa.Column("exit_code", sa.BigInteger(), nullable=True),
        sa.Column("started_at", sa.Float(), nullable=True),
        sa.Column("ended_at", sa.Float(), nullable=True),
        sa.Column("error_category", TEXT, nullable=True),
        sa.Column("error", TEXT, nullable=True),
        sa.Column("meta", TEXT, nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["workflow_runs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_step_attempts_run_id_node_id_attempt", "step_attempts", ["run_id", "node_id", "attempt"])
    op.create_table(
        "workflow_steps",
        sa.Column("id", ID, nullable=False),
        sa.Column("run_id", ID, nullable=False),
        sa.Column("session_id", ID, nullable=True),
        sa.Column("node_id", TEXT, nullable=True),
        sa.Column("step_number", sa.Integer(), server_default="0", nullable=False),
        sa.Column("title", TEXT, nullable=True),
        sa.Column("agent", TEXT, nullable=True),
        sa.Column("goal", TEXT, nullable=True),
        sa.Column("instructions", TEXT, nullable=True),
        sa.Column("summary", TEXT, nullable=True),
        sa.Column("status", TEXT, server_default="pending", nullable=False),
        sa.Column("depends_on", TEXT, nullable=True),
        sa.Column("expected_outputs", TEXT, nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("progress_percentage", sa.Float(), nullable=True),
        sa.Column("agent_transitions", TEXT, nullable=True),
        sa.Column("intermediate_artifacts", TEXT, nullable=True),
        sa.Column("inputs", TEXT, nullable=True),
        sa.Column("outputs", TEXT, nullable=True),
        sa.Column("error", TEXT, nullable=True),
        sa.Column("started_at", sa.Float(), nullable=True),
        sa.Column("ended_at", sa.Float(), nullable=True),
        sa.Column("meta", TEXT, nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["workflow_runs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_workflow_steps_run_id_step_number", "workflow_steps", ["run_id", "step_number"])
    op.create_table(
        "approval_requests",
        sa.Column("id", ID, nullable=False),
        sa.Column("run_id", ID, nullable=False),
        sa.Column("session_id", ID, nullable=True),
        sa.Column("node_id", TEXT, nullable=True),
        sa.Column("event_id", ID, nullable=True),
        sa.Column("approval_type", TEXT, nullable=False),
        sa.Column("context", TEXT, nullable=True),
        sa.Column("status", TEXT, server_default="pending", nullable=False),
        sa.Column("resolution", TEXT, nullable=True),
        sa.Column("result", TEXT, nullable=True),
        sa.Column("user_feedback", TEXT, nullable=True),
        sa.Column("resolved_by", TEXT, nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("resolved_at", sa.Float(), nullable=True),
        sa.Column("expires_at", sa.Float(), nullable=True),
        sa.Column("meta", TEXT, nullable=True),
        sa.ForeignKeyConstraint(["event_id"], ["execution_events.id"], ondelete="SET NULL"),
        sa.ForeignKeyConstraint(["run_id"], ["workflow_runs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_approval_requests_event_id", "approval_requests", ["event_id"])
    op.create_index("ix_approval_requests_run_id_created_at", "approval_requests", ["run_id", "created_at"])
    op.create_index("ix_approval_requests_status_created_at", "approval_requests", ["status", "created_at"])
    op.create_table(
        "cost_records",
        sa.Column("id", COUNT, autoincrement=True, nullable=False),
        sa.Column("run_id", ID, nullable=False),
        sa.Column("session_id", ID, nullable=True),
        sa.Column("node_id", TEXT, nullable=True),
        sa.Column("event_id", ID, nullable=True),
        sa.Column("provider", TEXT, nullable=True),
        sa.Column("model", TEXT, nullable=True),
        sa.Column("agent_name", TEXT, nullable=True),
        sa.Column("prompt_tokens", sa.Integer(), server_default="0", nullable=False),
        sa.Column("completion_tokens", sa.Integer(), server_default="0", nullable=False),
        sa.Column("total_tokens", sa.Integer(), server_default="0", nullable=False),
        sa.Column("cached_tokens", sa.Integer(), server_default="0", nullable=False),
        sa.Column("cost_usd", sa.Float(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["event_id"], ["execution_events.id"], ondelete="SET NULL"),
        sa.ForeignKeyConstraint(["run_id"], ["workflow_runs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_cost_records_event_id", "cost_records", ["event_id"])
    op.create_index("ix_cost_records_run_id_node_id", "cost_records", ["run_id", "node_id"])
    op.create_table(
        "files",
        sa.Column("id", ID, nullable=False),
        sa.Column("run_id", ID, nullable=False),
        sa.Column("session_id", ID, nullable=True),
        sa.Column("node_id", TEXT, nullable=True),
        sa.Column("event_id", ID, nullable=True),
        sa.Column("file_path", TEXT, nullable=False),
        sa.Column("file_type", TEXT, server_default="other", nullable=False),
        sa.Column("mime", TEXT, nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True),
        sa.Column("content_hash", TEXT, nullable=True),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("parent_file_id", ID, nullable=True),
        sa.Column("created_by_agent", TEXT, nullable=True),
        sa.Column("generating_code_hash", TEXT, nullable=True),
        sa.Column("workflow_phase", TEXT, nullable=True),
        sa.Column("is_final_output", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("priority", TEXT, nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("meta", TEXT, nullable=True),
        sa.ForeignKeyConstraint(["event_id"], ["execution_events.id"], ondelete="SET NULL"),
        sa.ForeignKeyConstraint(["parent_file_id"], ["files.id"], ondelete="SET NULL"),
        sa.ForeignKeyConstraint(["run_id"], ["workflow_runs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_files_event_id", "files", ["event_id"])
    op.create_index("ix_files_parent_file_id", "files", ["parent_file_id"])
    op.create_index("ix_files_run_id_file_path_version", "files", ["run_id", "file_path", "version"])
    op.create_table(
        "messages",
        sa.Column("id", COUNT, autoincrement=True, nullable=False),
        sa.Column("run_id", ID, nullable=False),
        sa.Column("session_id", ID, nullable=True),
        sa.Column("node_id", TEXT, nullable=True),
        sa.Column("event_id", ID, nullable=True),
        sa.Column("sender", TEXT, nullable=True),
        sa.Column("recipient", TEXT, nullable=True),
        sa.Column("content", TEXT, nullable=True),
        sa.Column("agent_role", TEXT, nullable=True),
        sa.Column("reasoning", TEXT, nullable=True),
        sa.Column("tool_calls", TEXT, nullable=True),
        sa.Column("code_generated", TEXT, nullable=True),
        sa.Column("execution_result", TEXT, nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("duration_ms", sa.Float(), nullable=True),
        sa.Column("tokens", sa.Integer(), nullable=True),
        sa.Column("meta", TEXT, nullable=True),
        sa.ForeignKeyConstraint(["event_id"], ["execution_events.id"], ondelete="SET NULL"),
        sa.ForeignKeyConstraint(["run_id"], ["workflow_runs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_messages_event_id", "messages", ["event_id"])
    op.create_index("ix_messages_run_id_id", "messages", ["run_id", "id"])
    op.create_table(
        "model_replies",
        sa.Column("id", ID, nullable=False),
        sa.Column("run_id", ID, nullable=False),
        sa.Column("node_id", TEXT, nullable=True),
        sa.Column("event_id", ID, nullable=True),
        sa.Column("attempt", sa.Integer(), server_default="1", nullable=False),
        sa.Column("ordinal", sa.Integer(), server_default="1", nullable=False),
        sa.Column("agent_name", TEXT, nullable=True),
        sa.Column("request_hash", TEXT, nullable=True),
        sa.Column("request", TEXT, nullable=True),
        sa.Column("reply", TEXT, nullable=True),
        sa.Column("usage", TEXT, nullable=True),
        sa.Column("masked", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["event_id"], ["execution_events.id"], ondelete="SET NULL"),
        sa.ForeignKeyConstraint(["run_id"], ["workflow_runs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_model_replies_event_id", "model_replies", ["event_id"])
    op.create_index(
        "ix_model_replies_run_id_node_id_attempt_ordinal", "model_replies", ["run_id", "node_id", "attempt", "ordinal"]
    )
    op.create_table(
        "skill_executions",
        sa.Column("id", ID, nullable=False),
        sa.Column("skill_id", ID, nullable=False),
        sa.Column("run_id", ID, nullable=True),
        sa.Column("status", TEXT, server_default="running", nullable=False),
        sa.Column("started_at", sa.Float(), nullable=False),
        sa.Column("ended_at", sa.Float(), nullable=True),
        sa.Column("duration_s", sa.Float(), nullable=True),
        sa.Column("cost_usd", sa.Float(), nullable=True),
        sa.Column("parameters", TEXT, nullable=True),
        sa.Column("adapted", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("adaptations", TEXT, nullable=True),
        sa.Column("adaptation_reason", TEXT, nullable=True),
        sa.Column("success", sa.Boolean(), nullable=True),
        sa.Column("error", TEXT, nullable=True),
        sa.Column("task_description", TEXT, nullable=True),
        sa.Column("context_diff", TEXT, nullable=True),
        sa.Column("notebook", TEXT, nullable=True),
        sa.Column("work_dir", TEXT, nullable=True),
        sa.Column("outputs", TEXT, nullable=True),
        sa.Column("metrics", TEXT, nullable=True),
        sa.Column("meta", TEXT, nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["workflow_runs.id"], ondelete="SET NULL"),
        sa.ForeignKeyConstraint(["skill_id"], ["skills.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("skill_id", "run_id", name="uq_skill_executions_skill_id_run_id"),
    )
    op.create_index("ix_skill_executions_run_id", "skill_executions", ["run_id"])


def downgrade() -> None:
    for table in reversed(TABLES):
        op.drop_table(table)
