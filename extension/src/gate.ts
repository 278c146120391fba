import { Api, IApproval, IOption, IPart, RequestError } from './api';
import { ago, element, setText } from './dom';

/** Answers that end something. */
const REFUSALS = new Set(['rejected', 'abort']);
/** Answers that let something happen which has to be seen first. */
const APPROVALS = new Set(['approved', 'use', 'retry']);
const KINDS = new Set(['text', 'code', 'output', 'plan']);

/**
 * One open gate: the question, everything that is decided on, and a button for each answer.
 *
 * What cannot be shown here cannot be approved here. The card stays as it is while it is polled, so that a comment
 * that is being written is kept.
 */
export class GateCard {
  readonly node: HTMLElement;
  private readonly _comment: HTMLTextAreaElement;
  private readonly _message: HTMLElement;
  private readonly _age: HTMLElement;
  private readonly _buttons: HTMLButtonElement[];

  constructor(
    private readonly _approval: IApproval,
    private readonly _api: Api,
    private readonly _answered: (lost: string) => void
  ) {
    const { id, context, shown } = this._approval;
    const title = shown?.title ?? 'A decision is needed';
    const complete = shown !== undefined && shown.parts.every(part => KINDS.has(part.kind));
    const options = (context.options ?? []).filter(option => complete || !APPROVALS.has(option.id));
    const heading = element('h3', 'cmb-gate-title', title);
    heading.id = `cmb-gate-${id}`;
    this._age = element('span', 'cmb-gate-age');
    this._comment = element('textarea', 'cmb-gate-comment');
    this._comment.rows = 2;
    const needing = options.find(option => option.needs_comment);
    this._comment.placeholder = needing ? `Comment (needed for “${needing.label}”)` : 'Comment (optional)';
    this._comment.setAttribute('aria-label', `Comment on: ${title}`);
    this._message = element('div', 'cmb-error');
    this._message.setAttribute('role', 'alert');
    this._buttons = options.map((option, index) => this._button(option, index));
    const source = element('div', 'cmb-gate-source', '', [
      element('span', 'cmb-glyph', '◆'),
      element('span', 'cmb-gate-run', this._approval.run_name ?? this._approval.run_id.slice(-8)),
      this._age
    ]);
    source.title = this._approval.workspace;
    const parts: HTMLElement[] = [source, heading, ...(shown?.parts ?? []).map(partNode)];
    if (!complete) {
      const where = `Not everything can be shown here. Look at it in the notebook, or with: cmbagent approvals`;
      parts.push(element('p', 'cmb-error', where));
    }
    parts.push(this._comment, element('div', 'cmb-gate-buttons', '', this._buttons), this._message);
    this.node = element('section', 'cmb-gate', '', parts);
    this.node.dataset.approvalId = id;
    this.node.setAttribute('aria-labelledby', heading.id);
    this.refresh();
  }

  /** Bring up to date what changes by itself: how long it has been waiting. */
  refresh(): void {
    setText(this._age, this._approval.created_at === null ? '' : ago(this._approval.created_at));
  }

  private _button(option: IOption, index: number): HTMLButtonElement {
    const kind = index === 0 ? 'cmb-primary' : REFUSALS.has(option.id) ? 'cmb-refuse' : '';
    const button = element('button', `cmb-button ${kind}`.trim(), option.label);
    button.type = 'button';
    button.dataset.option = option.id;
    button.addEventListener('click', () => void this._answer(option));
    return button;
  }

  private async _answer(option: IOption): Promise<void> {
    const comment = this._comment.value.trim();
    if (option.needs_comment && !comment) {
      this._message.textContent = 'Say what to change.';
      this._comment.focus();
      return;
    }
    this._message.textContent = '';
    this._setBusy(true);
    try {
      await this._api.resolve(this._approval.id, option.id, comment, this._approval.shown?.hash ?? '');
      this._answered('');
    } catch (error) {
      this._message.textContent = (error as Error).message;
      // The card of a gate that somebody else has answered goes: what holds is said above the gates.
      this._answered(error instanceof RequestError && error.status === 409 ? error.message : '');
    } finally {
      this._setBusy(false);
    }
  }

  private _setBusy(busy: boolean): void {
    this.node.setAttribute('aria-busy', String(busy));
    for (const button of this._buttons) {
      button.disabled = busy;
    }
  }
}

/** A part of what a gate shows, whole. */
function partNode(part: IPart): HTMLElement {
  const head = part.title ? [element('div', 'cmb-faint cmb-part-title', part.title)] : [];
  if (part.kind === 'code') {
    return codeNode(part);
  }
  if (part.kind === 'plan') {
    return element('ol', 'cmb-gate-steps', '', part.steps.map(stepNode));
  }
  const text = element(part.kind === 'output' ? 'pre' : 'p', part.kind === 'output' ? 'cmb-code' : 'cmb-gate-body');
  text.textContent = part.text;
  return element('div', 'cmb-part', '', [...head, text]);
}

function stepNode(step: IPart['steps'][number]): HTMLElement {
  const after = step.after ? ` · after ${step.after}` : '';
  const title = element('b', '', step.title);
  const item = element('li', '', '', [title, element('span', 'cmb-faint', ` · ${step.agent}${after}`)]);
  item.append(...step.lines.map(line => element('div', 'cmb-step-line', line)));
  return item;
}

/** Code whole, with numbered lines and a button that copies it. */
function codeNode(part: IPart): HTMLElement {
  const lines = part.text.replace(/\n$/, '').split('\n');
  const code = element('pre', 'cmb-code cmb-numbered');
  code.tabIndex = 0;
  lines.forEach((line, index) => {
    const row = element('span', '', line);
    row.dataset.n = String(index + 1);
    code.append(row, '\n');
  });
  const copy = element('button', 'cmb-button cmb-copy', 'Copy');
  copy.type = 'button';
  copy.addEventListener('click', () => {
    navigator.clipboard.writeText(lines.join('\n')).then(
      () => setText(copy, 'Copied'),
      () => setText(copy, 'Select and copy it')
    );
  });
  const head = element('div', 'cmb-code-head', '', [element('span', 'cmb-faint', part.title || 'Code'), copy]);
  return element('div', 'cmb-part', '', [head, code]);
}
