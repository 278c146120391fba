import { Api, IApproval, IOption } from './api';
import { ago, element, setText } from './dom';

/** Answers that end something. */
const REFUSALS = new Set(['rejected', 'abort']);

/**
 * One open gate: the question, what it is about, and a button for each answer.
 *
 * The card stays as it is while it is polled, so that a comment that is being written is kept.
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
    private readonly _answered: () => void
  ) {
    const { id, context } = this._approval;
    const { title = 'A decision is needed', options = [] } = context;
    const steps = context.plan?.steps ?? [];
    // A plan is shown as a list; its text would say the same again.
    const body = steps.length ? context.plan?.goal : context.body;
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
    const parts: HTMLElement[] = [source, heading];
    if (body) {
      parts.push(element('p', 'cmb-gate-body', body));
    }
    if (steps.length) {
      parts.push(
        element(
          'ol',
          'cmb-gate-steps',
          '',
          steps.map(step => {
            const item = element('li', '', step.title ?? '');
            item.append(element('span', 'cmb-faint', ` · ${step.agent ?? ''}`));
            return item;
          })
        )
      );
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
      this._message.textContent = 'Write what should change, then press the button again.';
      this._comment.focus();
      return;
    }
    this._message.textContent = '';
    this._setBusy(true);
    try {
      await this._api.resolve(this._approval.id, option.id, comment);
    } catch (error) {
      this._message.textContent = (error as Error).message;
    } finally {
      this._setBusy(false);
    }
    this._answered();
  }

  private _setBusy(busy: boolean): void {
    this.node.setAttribute('aria-busy', String(busy));
    for (const button of this._buttons) {
      button.disabled = busy;
    }
  }
}
