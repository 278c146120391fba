/**
 * The panel's side of the REST interface under `/cmbagent/api`.
 */

import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';

export interface IRun {
  id: string;
  workspace: string;
  name: string | null;
  mode: string;
  model: string | null;
  model_source: string | null;
  status: string;
  task_description: string | null;
  error: string | null;
  started_at: number | null;
  ended_at: number | null;
  created_at: number | null;
  silent: boolean;
  calls: number;
  cost_usd: number | null;
  steps_done: number;
  steps: number;
}

export interface IOption {
  id: string;
  label: string;
  /** The answer says nothing without a comment. */
  needs_comment?: boolean;
}

/** A step of a plan as it is shown: whole. */
export interface IPlannedStep {
  number: string;
  title: string;
  agent: string;
  after: string;
  lines: string[];
}

/** A part of what a gate shows; invisible characters are visible in it. */
export interface IPart {
  kind: string;
  title: string;
  text: string;
  steps: IPlannedStep[];
}

/** A gate: its row, and everything that is decided on in `shown`. */
export interface IApproval {
  id: string;
  run_id: string;
  run_name: string | null;
  workspace: string;
  node_id: string;
  approval_type: string;
  status: string;
  created_at: number | null;
  context: {
    title?: string;
    options?: IOption[];
  };
  /** Left out by a server that is older than the panel. */
  shown?: { title: string; hash: string; parts: IPart[] };
}

export interface IStep {
  id: string;
  node_id: string;
  step_number: number;
  title: string | null;
  agent: string | null;
  status: string;
  attempts: number | null;
  error: string | null;
}

/** The newest version of a skill, as a list shows it. */
export interface ISkill {
  id: string;
  workspace: string;
  name: string;
  version: number;
  status: string;
  trusted: boolean;
  description: string | null;
  tags: string[] | null;
  parameters: { name: string; type: string; default: unknown; help?: string; unit?: string }[];
  usage_count: number | null;
  success_count: number | null;
  avg_execution_time_s: number | null;
  last_used_at: number | null;
}

/** A workspace that could not be read, and what to do about it. */
export interface IProblem {
  workspace: string;
  error: string;
  next_step: string;
}

/** An answer of the server that is not a success; its text ends with what to do next. */
export class RequestError extends Error {
  constructor(
    message: string,
    readonly status: number
  ) {
    super(message);
  }
}

export class Api {
  private readonly _settings = ServerConnection.makeSettings();

  /** The newest runs of all workspaces. */
  runs(limit: number): Promise<{ runs: IRun[]; problems: IProblem[] }> {
    return this._request(`runs?limit=${limit}`);
  }

  /** The gates that wait for an answer, oldest first. */
  pending(): Promise<{ approvals: IApproval[] }> {
    return this._request('approvals/pending');
  }

  /** The newest version of each skill, or of those that have all words of a search. */
  skills(search: string): Promise<{ skills: ISkill[] }> {
    return this._request(`skills?search=${encodeURIComponent(search)}`);
  }

  /** Put the starter skills into the library of the default workspace. */
  starterSkills(): Promise<unknown> {
    return this._request('skills/starter', {});
  }

  steps(run: string): Promise<{ steps: IStep[] }> {
    return this._request(`runs/${encodeURIComponent(run)}/steps`);
  }

  /** Answer a gate; `hash` is that of what was shown, and nothing else is answered. */
  resolve(approval: string, resolution: string, comment: string, hash: string): Promise<unknown> {
    return this._request(`approvals/${encodeURIComponent(approval)}/resolve`, { resolution, comment, hash });
  }

  cancel(run: string): Promise<unknown> {
    return this._request(`runs/${encodeURIComponent(run)}/cancel`, {});
  }

  private async _request<T>(path: string, body?: object): Promise<T> {
    const url = URLExt.join(this._settings.baseUrl, 'cmbagent/api') + '/' + path;
    const init: RequestInit = body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) };
    let response: Response;
    try {
      response = await ServerConnection.makeRequest(url, init, this._settings);
    } catch {
      throw new RequestError('The Jupyter server does not answer. Check that it is still running.', 0);
    }
    const text = await response.text();
    let data: any = null;
    try {
      data = JSON.parse(text);
    } catch {
      // Not JSON: the status says what there is to say.
    }
    if (!response.ok || data === null) {
      throw new RequestError(explain(response.status, data), response.status);
    }
    return data as T;
  }
}

function explain(status: number, data: any): string {
  if (data?.error) {
    return `${data.error} ${data.next_step ?? ''}`.trim();
  }
  if (status === 404) {
    return 'The server part of cmbagent_nb is not enabled. Run “cmbagent doctor” in a terminal.';
  }
  if (status === 403) {
    return 'The Jupyter server refused the request. Reload the page to sign in again.';
  }
  return `The Jupyter server answered with status ${status}. See its log.`;
}
