import { ISkill } from './api';
import { ago, arrange, duration, element, setText } from './dom';

const LOOKS: Record<string, { glyph: string; label: string; tone: string }> = {
  active: { glyph: '✔', label: 'verified', tone: 'good' },
  draft: { glyph: '✎', label: 'draft', tone: 'wait' },
  deprecated: { glyph: '–', label: 'deprecated', tone: 'idle' }
};

/**
 * One skill in the list: a line with its status that opens to what it is for, what can be
 * varied, and the cell that shows its form in a notebook.
 */
export class SkillRow {
  readonly node: HTMLElement;
  private readonly _head: HTMLButtonElement;
  private readonly _glyph = element('span', 'cmb-glyph');
  private readonly _name = element('span', 'cmb-run-name');
  private readonly _status = element('span', 'cmb-run-status');
  private readonly _facts = element('span', 'cmb-run-facts cmb-faint');
  private readonly _details = element('div', 'cmb-run-details');
  private readonly _about = element('p', 'cmb-run-task');
  private readonly _warning = element('p', 'cmb-error');
  private readonly _tags = element('p', 'cmb-faint');
  private readonly _parameters = element('ul', 'cmb-parameters');
  private readonly _cell = element('pre', 'cmb-code');
  private readonly _copy = element('button', 'cmb-button', 'Copy the cell');
  private _open = false;

  constructor(private _skill: ISkill) {
    this._head = element('button', 'cmb-run-head', '', [this._glyph, this._name, this._status, this._facts]);
    this._head.type = 'button';
    this._glyph.setAttribute('aria-hidden', 'true');
    this._details.id = `cmb-skill-${_skill.id}`;
    this._head.setAttribute('aria-controls', this._details.id);
    this._head.addEventListener('click', () => {
      this._open = !this._open;
      this._show();
    });
    this._copy.type = 'button';
    this._copy.addEventListener('click', () => void this._copyCell());
    this._details.append(this._about, this._warning, this._parameters, this._tags, this._cell, this._copy);
    this.node = element('li', 'cmb-run', '', [this._head, this._details]);
    this.node.dataset.skillId = _skill.id;
    this._show();
  }

  update(skill: ISkill): void {
    this._skill = skill;
    this._show();
  }

  private _show(): void {
    const skill = this._skill;
    const shown = LOOKS[skill.status] ?? { glyph: '·', label: skill.status, tone: 'idle' };
    this.node.dataset.status = skill.status;
    this.node.dataset.tone = shown.tone;
    setText(this._glyph, shown.glyph);
    setText(this._name, skill.name);
    setText(this._status, skill.trusted ? shown.label : `${shown.label}, not trusted`);
    setText(this._facts, facts(skill));
    this._head.title = skill.description ?? '';
    this._head.setAttribute('aria-expanded', String(this._open));
    this._details.hidden = !this._open;
    setText(this._about, skill.description ?? '');
    setText(
      this._warning,
      skill.trusted
        ? ''
        : `It came from elsewhere. Read its code, then: %cmbagent skill trust ${skill.name}`
    );
    setText(this._tags, (skill.tags ?? []).join(', '));
    setText(this._cell, `%cmbagent skill show ${skill.name}`);
    arrange(this._parameters, (skill.parameters ?? []).map(parameterItem));
  }

  private async _copyCell(): Promise<void> {
    try {
      await navigator.clipboard.writeText(this._cell.textContent ?? '');
      setText(this._copy, 'Copied: paste it into a cell');
    } catch {
      setText(this._copy, 'Select the line above and copy it');
    }
  }
}

function parameterItem(parameter: ISkill['parameters'][number]): HTMLElement {
  const unit = parameter.unit ? ` [${parameter.unit}]` : '';
  return element('li', 'cmb-parameter', '', [
    element('code', '', `${parameter.name} = ${JSON.stringify(parameter.default)}${unit}`),
    element('div', 'cmb-faint', parameter.help ?? '')
  ]);
}

function facts(skill: ISkill): string {
  const used = skill.usage_count ?? 0;
  const parts = [`v${skill.version}`, used ? `${skill.success_count ?? 0} of ${used} runs succeeded` : 'not run yet'];
  if (skill.avg_execution_time_s !== null && skill.avg_execution_time_s !== undefined) {
    parts.push(duration(skill.avg_execution_time_s));
  }
  if (skill.last_used_at) {
    parts.push(ago(skill.last_used_at));
  }
  return parts.join(' · ');
}
