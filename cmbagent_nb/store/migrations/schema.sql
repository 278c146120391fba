BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0006');
CREATE TABLE approval_requests (
	id VARCHAR(36) NOT NULL, 
	run_id VARCHAR(36) NOT NULL, 
	session_id VARCHAR(36), 
	node_id TEXT, 
	event_id VARCHAR(36), 
	approval_type TEXT NOT NULL, 
	context TEXT, 
	status TEXT DEFAULT 'pending' NOT NULL, 
	resolution TEXT, 
	result TEXT, 
	user_feedback TEXT, 
	resolved_by TEXT, 
	created_at FLOAT NOT NULL, 
	resolved_at FLOAT, 
	expires_at FLOAT, 
	meta TEXT, 
	PRIMARY KEY (id), 
	FOREIGN KEY(event_id) REFERENCES execution_events (id) ON DELETE SET NULL, 
	FOREIGN KEY(run_id) REFERENCES workflow_runs (id) ON DELETE CASCADE
);
CREATE TABLE checkpoints (
	id VARCHAR(36) NOT NULL, 
	run_id VARCHAR(36) NOT NULL, 
	session_id VARCHAR(36), 
	node_id TEXT, 
	checkpoint_type TEXT NOT NULL, 
	name TEXT, 
	journal_position BIGINT, 
	created_at FLOAT NOT NULL, 
	meta TEXT, 
	PRIMARY KEY (id), 
	FOREIGN KEY(run_id) REFERENCES workflow_runs (id) ON DELETE CASCADE
);
CREATE TABLE commands (
	id VARCHAR(36) NOT NULL, 
	run_id VARCHAR(36) NOT NULL, 
	command TEXT NOT NULL, 
	arguments TEXT, 
	origin TEXT, 
	created_at FLOAT NOT NULL, 
	handled_at FLOAT, 
	outcome TEXT, 
	PRIMARY KEY (id), 
	FOREIGN KEY(run_id) REFERENCES workflow_runs (id) ON DELETE CASCADE
);
CREATE TABLE cost_records (
	id INTEGER NOT NULL, 
	run_id VARCHAR(36) NOT NULL, 
	session_id VARCHAR(36), 
	node_id TEXT, 
	event_id VARCHAR(36), 
	provider TEXT, 
	model TEXT, 
	agent_name TEXT, 
	prompt_tokens INTEGER DEFAULT '0' NOT NULL, 
	completion_tokens INTEGER DEFAULT '0' NOT NULL, 
	total_tokens INTEGER DEFAULT '0' NOT NULL, 
	cached_tokens INTEGER DEFAULT '0' NOT NULL, 
	cost_usd FLOAT, 
	created_at FLOAT NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(event_id) REFERENCES execution_events (id) ON DELETE SET NULL, 
	FOREIGN KEY(run_id) REFERENCES workflow_runs (id) ON DELETE CASCADE
);
CREATE TABLE dag_edges (
	id INTEGER NOT NULL, 
	run_id VARCHAR(36) NOT NULL, 
	from_node_id TEXT NOT NULL, 
	to_node_id TEXT NOT NULL, 
	dependency_type TEXT DEFAULT 'sequential' NOT NULL, 
	condition TEXT, 
	PRIMARY KEY (id), 
	FOREIGN KEY(run_id) REFERENCES workflow_runs (id) ON DELETE CASCADE
);
CREATE TABLE dag_nodes (
	id VARCHAR(36) NOT NULL, 
	run_id VARCHAR(36) NOT NULL, 
	session_id VARCHAR(36), 
	node_id TEXT NOT NULL, 
	parent_node_id TEXT, 
	node_type TEXT NOT NULL, 
	title TEXT, 
	agent TEXT, 
	status TEXT DEFAULT 'pending' NOT NULL, 
	order_index INTEGER DEFAULT '0' NOT NULL, 
	depth INTEGER DEFAULT '0' NOT NULL, 
	started_at FLOAT, 
	ended_at FLOAT, 
	meta TEXT, 
	PRIMARY KEY (id), 
	FOREIGN KEY(run_id) REFERENCES workflow_runs (id) ON DELETE CASCADE, 
	CONSTRAINT uq_dag_nodes_run_id_node_id UNIQUE (run_id, node_id)
);
CREATE TABLE execution_events (
	id VARCHAR(36) NOT NULL, 
	run_id VARCHAR(36) NOT NULL, 
	session_id VARCHAR(36), 
	node_id TEXT, 
	parent_event_id VARCHAR(36), 
	event_type TEXT NOT NULL, 
	event_subtype TEXT, 
	agent_name TEXT, 
	agent_role TEXT, 
	attempt INTEGER, 
	status TEXT DEFAULT 'running' NOT NULL, 
	started_at FLOAT NOT NULL, 
	ended_at FLOAT, 
	duration_ms FLOAT, 
	inputs TEXT, 
	outputs TEXT, 
	error TEXT, 
	meta TEXT, 
	execution_order INTEGER DEFAULT '0' NOT NULL, 
	depth INTEGER DEFAULT '0' NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(parent_event_id) REFERENCES execution_events (id) ON DELETE SET NULL, 
	FOREIGN KEY(run_id) REFERENCES workflow_runs (id) ON DELETE CASCADE
);
CREATE TABLE files (
	id VARCHAR(36) NOT NULL, 
	run_id VARCHAR(36) NOT NULL, 
	session_id VARCHAR(36), 
	node_id TEXT, 
	event_id VARCHAR(36), 
	file_path TEXT NOT NULL, 
	file_type TEXT DEFAULT 'other' NOT NULL, 
	mime TEXT, 
	size_bytes BIGINT, 
	content_hash TEXT, 
	version INTEGER DEFAULT '1' NOT NULL, 
	parent_file_id VARCHAR(36), 
	created_by_agent TEXT, 
	generating_code_hash TEXT, 
	workflow_phase TEXT, 
	is_final_output BOOLEAN DEFAULT 0 NOT NULL, 
	priority TEXT, 
	created_at FLOAT NOT NULL, 
	meta TEXT, 
	PRIMARY KEY (id), 
	FOREIGN KEY(event_id) REFERENCES execution_events (id) ON DELETE SET NULL, 
	FOREIGN KEY(parent_file_id) REFERENCES files (id) ON DELETE SET NULL, 
	FOREIGN KEY(run_id) REFERENCES workflow_runs (id) ON DELETE CASCADE
);
CREATE TABLE leases (
	run_id VARCHAR(36) NOT NULL, 
	owner TEXT NOT NULL, 
	heartbeat_at FLOAT NOT NULL, 
	PRIMARY KEY (run_id), 
	FOREIGN KEY(run_id) REFERENCES workflow_runs (id) ON DELETE CASCADE
);
CREATE TABLE messages (
	id INTEGER NOT NULL, 
	run_id VARCHAR(36) NOT NULL, 
	session_id VARCHAR(36), 
	node_id TEXT, 
	event_id VARCHAR(36), 
	sender TEXT, 
	recipient TEXT, 
	content TEXT, 
	agent_role TEXT, 
	reasoning TEXT, 
	tool_calls TEXT, 
	code_generated TEXT, 
	execution_result TEXT, 
	created_at FLOAT NOT NULL, 
	duration_ms FLOAT, 
	tokens INTEGER, 
	meta TEXT, 
	PRIMARY KEY (id), 
	FOREIGN KEY(event_id) REFERENCES execution_events (id) ON DELETE SET NULL, 
	FOREIGN KEY(run_id) REFERENCES workflow_runs (id) ON DELETE CASCADE
);
CREATE TABLE model_replies (
	id VARCHAR(36) NOT NULL, 
	run_id VARCHAR(36) NOT NULL, 
	node_id TEXT, 
	event_id VARCHAR(36), 
	attempt INTEGER DEFAULT '1' NOT NULL, 
	ordinal INTEGER DEFAULT '1' NOT NULL, 
	agent_name TEXT, 
	request_hash TEXT, 
	request TEXT, 
	reply TEXT, 
	usage TEXT, 
	masked BOOLEAN DEFAULT 0 NOT NULL, 
	created_at FLOAT NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(event_id) REFERENCES execution_events (id) ON DELETE SET NULL, 
	FOREIGN KEY(run_id) REFERENCES workflow_runs (id) ON DELETE CASCADE
);
CREATE TABLE projects (
	id VARCHAR(36) NOT NULL, 
	session_id VARCHAR(36) NOT NULL, 
	name TEXT NOT NULL, 
	description TEXT, 
	created_at FLOAT NOT NULL, 
	meta TEXT, 
	PRIMARY KEY (id), 
	FOREIGN KEY(session_id) REFERENCES sessions (id) ON DELETE CASCADE
);
CREATE TABLE sessions (
	id VARCHAR(36) NOT NULL, 
	user_id TEXT, 
	name TEXT NOT NULL, 
	status TEXT DEFAULT 'active' NOT NULL, 
	created_at FLOAT NOT NULL, 
	last_active_at FLOAT, 
	resource_limits TEXT, 
	meta TEXT, 
	PRIMARY KEY (id)
);
CREATE TABLE skill_artifacts (
	id VARCHAR(36) NOT NULL, 
	skill_id VARCHAR(36) NOT NULL, 
	artifact_type TEXT NOT NULL, 
	name TEXT NOT NULL, 
	path TEXT, 
	content TEXT, 
	language TEXT, 
	is_template BOOLEAN DEFAULT 0 NOT NULL, 
	template_variables TEXT, 
	size_bytes BIGINT, 
	checksum TEXT, 
	PRIMARY KEY (id), 
	FOREIGN KEY(skill_id) REFERENCES skills (id) ON DELETE CASCADE
);
CREATE TABLE skill_executions (
	id VARCHAR(36) NOT NULL, 
	skill_id VARCHAR(36) NOT NULL, 
	run_id VARCHAR(36), 
	status TEXT DEFAULT 'running' NOT NULL, 
	started_at FLOAT NOT NULL, 
	ended_at FLOAT, 
	duration_s FLOAT, 
	cost_usd FLOAT, 
	parameters TEXT, 
	adapted BOOLEAN DEFAULT 0 NOT NULL, 
	adaptations TEXT, 
	adaptation_reason TEXT, 
	success BOOLEAN, 
	error TEXT, 
	task_description TEXT, 
	context_diff TEXT, 
	notebook TEXT, 
	work_dir TEXT, 
	outputs TEXT, 
	metrics TEXT, 
	meta TEXT, session_id VARCHAR(36), mode TEXT, trial_id VARCHAR(36), sweep_id VARCHAR(36), 
	PRIMARY KEY (id), 
	FOREIGN KEY(run_id) REFERENCES workflow_runs (id) ON DELETE SET NULL, 
	FOREIGN KEY(skill_id) REFERENCES skills (id) ON DELETE CASCADE, 
	CONSTRAINT uq_skill_executions_skill_id_run_id UNIQUE (skill_id, run_id)
);
CREATE TABLE skill_matches (
	id VARCHAR(36) NOT NULL, 
	run_id VARCHAR(36), 
	session_id VARCHAR(36), 
	skill_id VARCHAR(36), 
	task_description TEXT, 
	mode TEXT, 
	status TEXT NOT NULL, 
	score FLOAT, 
	candidates TEXT, 
	duration_ms FLOAT, 
	created_at FLOAT NOT NULL, 
	meta TEXT, 
	PRIMARY KEY (id), 
	FOREIGN KEY(run_id) REFERENCES workflow_runs (id) ON DELETE SET NULL, 
	FOREIGN KEY(skill_id) REFERENCES skills (id) ON DELETE SET NULL
);
CREATE TABLE skill_sources (
	id VARCHAR(36) NOT NULL, 
	name TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	location TEXT NOT NULL, 
	trusted BOOLEAN DEFAULT 0 NOT NULL, 
	created_at FLOAT NOT NULL, 
	synced_at FLOAT, 
	meta TEXT, 
	PRIMARY KEY (id), 
	CONSTRAINT uq_skill_sources_name UNIQUE (name)
);
CREATE TABLE skill_trials (
	id VARCHAR(36) NOT NULL, 
	name TEXT NOT NULL, 
	skill_id VARCHAR(36) NOT NULL, 
	other_skill_id VARCHAR(36) NOT NULL, 
	share FLOAT NOT NULL, 
	status TEXT NOT NULL, 
	arguments TEXT, 
	result TEXT, 
	started_at FLOAT NOT NULL, 
	ended_at FLOAT, 
	meta TEXT, 
	PRIMARY KEY (id), 
	FOREIGN KEY(skill_id) REFERENCES skills (id) ON DELETE CASCADE, 
	FOREIGN KEY(other_skill_id) REFERENCES skills (id) ON DELETE CASCADE
);
CREATE TABLE skills (
	id VARCHAR(36) NOT NULL, 
	name TEXT NOT NULL, 
	version INTEGER DEFAULT '1' NOT NULL, 
	parent_skill_id VARCHAR(36), 
	session_id VARCHAR(36), 
	description TEXT, 
	tags TEXT, 
	task_pattern TEXT, 
	input_schema TEXT, 
	output_schema TEXT, 
	preconditions TEXT, 
	postconditions TEXT, 
	source_run_id VARCHAR(36), 
	source_step_range TEXT, 
	dag_template TEXT, 
	agent_sequence TEXT, 
	context_requirements TEXT, 
	notebook TEXT, 
	notebook_hash TEXT, 
	parameters TEXT, 
	status TEXT DEFAULT 'draft' NOT NULL, 
	trusted BOOLEAN DEFAULT 0 NOT NULL, 
	visibility TEXT DEFAULT 'private' NOT NULL, 
	task_embedding BLOB, 
	embedding_model TEXT, 
	success_count INTEGER DEFAULT '0' NOT NULL, 
	failure_count INTEGER DEFAULT '0' NOT NULL, 
	usage_count INTEGER DEFAULT '0' NOT NULL, 
	avg_execution_time_s FLOAT, 
	avg_cost_usd FLOAT, 
	verification TEXT, 
	created_at FLOAT NOT NULL, 
	last_used_at FLOAT, 
	meta TEXT, 
	PRIMARY KEY (id), 
	FOREIGN KEY(parent_skill_id) REFERENCES skills (id) ON DELETE SET NULL, 
	FOREIGN KEY(source_run_id) REFERENCES workflow_runs (id) ON DELETE SET NULL, 
	CONSTRAINT uq_skills_name_version UNIQUE (name, version)
);
CREATE TABLE state_history (
	id INTEGER NOT NULL, 
	entity_type TEXT NOT NULL, 
	entity_id TEXT NOT NULL, 
	run_id VARCHAR(36) NOT NULL, 
	session_id VARCHAR(36), 
	from_state TEXT, 
	to_state TEXT NOT NULL, 
	transition_reason TEXT, 
	transitioned_by TEXT, 
	created_at FLOAT NOT NULL, 
	meta TEXT, 
	PRIMARY KEY (id), 
	FOREIGN KEY(run_id) REFERENCES workflow_runs (id) ON DELETE CASCADE
);
CREATE TABLE step_attempts (
	id VARCHAR(36) NOT NULL, 
	run_id VARCHAR(36) NOT NULL, 
	node_id TEXT, 
	attempt INTEGER DEFAULT '1' NOT NULL, 
	pid BIGINT, 
	process_started_at FLOAT, 
	folder TEXT, 
	status TEXT DEFAULT 'running' NOT NULL, 
	exit_code BIGINT, 
	started_at FLOAT, 
	ended_at FLOAT, 
	error_category TEXT, 
	error TEXT, 
	meta TEXT, 
	PRIMARY KEY (id), 
	FOREIGN KEY(run_id) REFERENCES workflow_runs (id) ON DELETE CASCADE
);
CREATE TABLE workflow_runs (
	id VARCHAR(36) NOT NULL, 
	session_id VARCHAR(36) NOT NULL, 
	project_id VARCHAR(36), 
	name TEXT, 
	mode TEXT NOT NULL, 
	agent TEXT, 
	model TEXT, 
	model_source TEXT, 
	status TEXT DEFAULT 'draft' NOT NULL, 
	task_description TEXT, 
	created_at FLOAT NOT NULL, 
	started_at FLOAT, 
	ended_at FLOAT, 
	last_heartbeat_at FLOAT, 
	work_dir TEXT, 
	owner TEXT, 
	error TEXT, 
	result TEXT, 
	"plan" TEXT, 
	skill_id VARCHAR(36), 
	branch_parent_id VARCHAR(36), 
	is_branch BOOLEAN DEFAULT 0 NOT NULL, 
	branch_depth INTEGER DEFAULT '0' NOT NULL, 
	checkpoint_frequency_minutes FLOAT, 
	meta TEXT, total_calls INTEGER, total_tokens INTEGER, total_cost_usd FLOAT, total_unknown_costs INTEGER, 
	PRIMARY KEY (id), 
	FOREIGN KEY(branch_parent_id) REFERENCES workflow_runs (id) ON DELETE SET NULL, 
	FOREIGN KEY(project_id) REFERENCES projects (id) ON DELETE SET NULL, 
	FOREIGN KEY(session_id) REFERENCES sessions (id) ON DELETE CASCADE
);
CREATE TABLE workflow_steps (
	id VARCHAR(36) NOT NULL, 
	run_id VARCHAR(36) NOT NULL, 
	session_id VARCHAR(36), 
	node_id TEXT, 
	step_number INTEGER DEFAULT '0' NOT NULL, 
	title TEXT, 
	agent TEXT, 
	goal TEXT, 
	instructions TEXT, 
	summary TEXT, 
	status TEXT DEFAULT 'pending' NOT NULL, 
	depends_on TEXT, 
	expected_outputs TEXT, 
	attempts INTEGER DEFAULT '0' NOT NULL, 
	progress_percentage FLOAT, 
	agent_transitions TEXT, 
	intermediate_artifacts TEXT, 
	inputs TEXT, 
	outputs TEXT, 
	error TEXT, 
	started_at FLOAT, 
	ended_at FLOAT, 
	meta TEXT, 
	PRIMARY KEY (id), 
	FOREIGN KEY(run_id) REFERENCES workflow_runs (id) ON DELETE CASCADE
);
CREATE INDEX ix_sessions_name ON sessions (name);
CREATE INDEX ix_projects_session_id ON projects (session_id);
CREATE INDEX ix_workflow_runs_branch_parent_id ON workflow_runs (branch_parent_id);
CREATE INDEX ix_workflow_runs_created_at ON workflow_runs (created_at);
CREATE INDEX ix_workflow_runs_name ON workflow_runs (name);
CREATE INDEX ix_workflow_runs_project_id ON workflow_runs (project_id);
CREATE INDEX ix_workflow_runs_session_id_created_at ON workflow_runs (session_id, created_at);
CREATE INDEX ix_workflow_runs_status ON workflow_runs (status);
CREATE INDEX ix_commands_handled_at ON commands (handled_at);
CREATE INDEX ix_commands_run_id ON commands (run_id);
CREATE INDEX ix_dag_edges_run_id ON dag_edges (run_id);
CREATE INDEX ix_dag_nodes_run_id_order_index ON dag_nodes (run_id, order_index);
CREATE INDEX ix_execution_events_parent_event_id ON execution_events (parent_event_id);
CREATE INDEX ix_execution_events_run_id_execution_order ON execution_events (run_id, execution_order);
CREATE INDEX ix_execution_events_run_id_node_id_execution_order ON execution_events (run_id, node_id, execution_order);
CREATE INDEX ix_execution_events_session_id_started_at ON execution_events (session_id, started_at);
CREATE INDEX ix_skills_parent_skill_id ON skills (parent_skill_id);
CREATE INDEX ix_skills_source_run_id ON skills (source_run_id);
CREATE INDEX ix_skills_status_success_count ON skills (status, success_count);
CREATE INDEX ix_skills_tags ON skills (tags);
CREATE INDEX ix_state_history_entity_type_entity_id ON state_history (entity_type, entity_id);
CREATE INDEX ix_state_history_run_id_id ON state_history (run_id, id);
CREATE INDEX ix_step_attempts_run_id_node_id_attempt ON step_attempts (run_id, node_id, attempt);
CREATE INDEX ix_workflow_steps_run_id_step_number ON workflow_steps (run_id, step_number);
CREATE INDEX ix_approval_requests_event_id ON approval_requests (event_id);
CREATE INDEX ix_approval_requests_run_id_created_at ON approval_requests (run_id, created_at);
CREATE INDEX ix_approval_requests_status_created_at ON approval_requests (status, created_at);
CREATE INDEX ix_cost_records_event_id ON cost_records (event_id);
CREATE INDEX ix_cost_records_run_id_node_id ON cost_records (run_id, node_id);
CREATE INDEX ix_files_event_id ON files (event_id);
CREATE INDEX ix_files_parent_file_id ON files (parent_file_id);
CREATE INDEX ix_files_run_id_file_path_version ON files (run_id, file_path, version);
CREATE INDEX ix_messages_event_id ON messages (event_id);
CREATE INDEX ix_messages_run_id_id ON messages (run_id, id);
CREATE INDEX ix_model_replies_event_id ON model_replies (event_id);
CREATE INDEX ix_model_replies_run_id_node_id_attempt_ordinal ON model_replies (run_id, node_id, attempt, ordinal);
CREATE INDEX ix_skill_executions_run_id ON skill_executions (run_id);
CREATE INDEX ix_checkpoints_run_id_journal_position ON checkpoints (run_id, journal_position);
CREATE INDEX ix_skill_executions_sweep_id ON skill_executions (sweep_id);
CREATE INDEX ix_skill_artifacts_skill_id ON skill_artifacts (skill_id);
CREATE INDEX ix_skill_matches_run_id ON skill_matches (run_id);
CREATE INDEX ix_skill_matches_skill_id ON skill_matches (skill_id);
CREATE INDEX ix_skill_trials_skill_id ON skill_trials (skill_id);
CREATE INDEX ix_skill_trials_other_skill_id ON skill_trials (other_skill_id);
CREATE INDEX ix_execution_events_event_type_event_subtype ON execution_events (event_type, event_subtype) WHERE event_subtype IS NOT NULL;
COMMIT;
