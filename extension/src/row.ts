import { Api, IRun, IStep } from './api';
import { ago, arrange, duration, element, setText } from './dom';
import { isOver, look } from './status';

const MODES: Record<string, string> = { planning_and_control: 'plan', one_shot: 'one shot', deep_research: 'deep' };

/**
 * One run in the list: a line with its status that opens to its steps.
 */
export class RunRow {
  readonly node: HTMLElement;
  private readonly _head: HTMLButtonElement;
  private readonly _glyph = element('span', 'cmb-glyph');
  private readonly _name = element('span', 'cmb-run-name');
  private readonly _status = element('span', 'cmb-run-status');
  private readonly _facts = element('span', 'cmb-run-facts cmb-faint');
  private readonly _details = element('div', 'cmb-run-details');
  private readonly _task = element('p', 'cmb-run-task');
  private readonly _error = element('p', 'cmb-error');
  private readonly _steps = element('ol', 'cmb-steps');
  private readonly _cancel = element('button', 'cmb-button cmb-refuse', '■ Cancel run');
  private readonly _message = element('div', 'cmb-error');
  private _run: IRun;
  private _open = false;

  constructor(
    run: IRun,
    private readonly _api: Api,
    private readonly _changed: () => void
  ) {
    this._run = run;
    this._head = element('button', 'cmb-run-head', '', [this._glyph, this._name, this._status, this._facts]);
    this._head.type = 'button';
    this._glyph.setAttribute('aria-hidden', 'true');
    this._details.id = `cmb-run-${run.id}`;
    this._head.setAttribute('aria-controls', this._details.id);
    this._head.addEventListener('click', () => this.toggle());
    this._cancel.type = 'button';
    this._cancel.addEventListener('click', () => void this._cancelRun());
    this._message.setAttribute('role', 'alert');
    this._details.append(this._task, this._error, this._steps, this._cancel, this._message);
    this.node = element('li', 'cmb-run', '', [this._head, this._details]);
    this.node.dataset.runId = run.id;
    this._show();
  }

  get open(): boolean {
    return this._open;
  }

  toggle(): void {
    this._open = !this._open;
    this._show();
    if (this._open) {
      void this.loadSteps();
    }
  }

  /** Take over what a poll brought; read the steps anew when the run is open and goes on. */
  update(run: IRun): void {
    const moved = this._run.status !== run.status || !isOver(run.status);
    this._run = run;
    this._show();
    if (this._open && moved) {
      void this.loadSteps();
    }
  }

  async loadSteps(): Promise<void> {
    try {
      const { steps } = await this._api.steps(this._run.id);
      arrange(this._steps, steps.map(stepItem));
    } catch (error) {
      setText(this._message, (error as Error).message);
    }
  }

  private _show(): void {
    const run = this._run;
    const silent = run.silent && !isOver(run.status);
    const shown = silent ? { glyph: '↯', label: 'no sign of life', tone: 'bad' } : look(run.status);
    this.node.dataset.status = run.status;
    this.node.dataset.tone = shown.tone;
    setText(this._glyph, shown.glyph);
    setText(this._name, run.name || run.id.slice(-8));
    setText(this._status, shown.label);
    setText(this._facts, facts(run));
    this._head.title = run.task_description ?? '';
    this._head.setAttribute('aria-expanded', String(this._open));
    this._details.hidden = !this._open;
    setText(this._task, run.task_description ?? '');
    setText(this._error, run.error ?? '');
    this._error.hidden = !run.error;
    this._cancel.hidden = isOver(run.status) || run.status === 'draft';
  }

  private async _cancelRun(): Promise<void> {
    this._cancel.disabled = true;
    setText(this._message, '');
    try {
      await this._api.cancel(this._run.id);
    } catch (error) {
      setText(this._message, (error as Error).message);
    }
    this._cancel.disabled = false;
    this._changed();
  }
}

function facts(run: IRun): string {
  const parts = [MODES[run.mode] ?? run.mode];
  if (run.steps) {
    parts.push(`${run.steps_done} of ${run.steps} steps`);
  }
  if (run.started_at !== null) {
    parts.push(duration((run.ended_at ?? Date.now() / 1000) - run.started_at));
  }
  if (run.model_source === 'playbook') {
    parts.push('playbook');
  } else if (run.cost_usd !== null && run.calls) {
    parts.push(`$${run.cost_usd.toFixed(3)}`);
  }
  if (run.ended_at !== null) {
    parts.push(ago(run.ended_at));
  }
  return parts.join(' · ');
}

function stepItem(step: IStep): HTMLElement {
  const shown = look(step.status);
  const glyph = element('span', 'cmb-glyph', shown.glyph);
  glyph.setAttribute('aria-hidden', 'true');
  const item = element('li', 'cmb-step', '', [
    glyph,
    element('span', 'cmb-step-title', `${step.step_number} ${step.title ?? step.node_id}`),
    element('span', 'cmb-faint', [step.agent, shown.label].filter(Boolean).join(' · '))
  ]);
  item.dataset.tone = shown.tone;
  item.dataset.status = step.status;
  if (step.error) {
    item.append(element('span', 'cmb-error', step.error));
  }
  return item;
}
