import { Api, ISkill } from './api';
import { arrange, element, setText } from './dom';
import { SkillRow } from './skill';

/** Milliseconds after the last key before the server is asked. */
const PAUSE = 250;

/**
 * The skills of all workspaces, with a field to search them by words.
 */
export class SkillList {
  readonly node = element('div', 'cmb-skills');
  private readonly _search = element('input', 'cmb-search');
  private readonly _note = element('p', 'cmb-faint cmb-note');
  private readonly _list = element('ul', 'cmb-runs');
  private readonly _rows = new Map<string, SkillRow>();
  private _timer = 0;
  private _opened = false;

  constructor(
    private readonly _api: Api,
    private readonly _changed: () => void
  ) {
    this._search.type = 'search';
    this._search.placeholder = 'Search the skills';
    this._search.setAttribute('aria-label', 'Search the skills');
    this._search.addEventListener('input', () => {
      window.clearTimeout(this._timer);
      this._timer = window.setTimeout(this._changed, PAUSE);
    });
    this.node.append(this._search, this._note, this._list);
  }

  /** Ask the server and show what it has. */
  async look(): Promise<void> {
    if (!this._opened) {
      this._opened = true;
      // A look changes nothing, so the starter skills are asked for; without a workspace there is nowhere to put them.
      await this._api.starterSkills().catch(() => undefined);
    }
    const asked = this._search.value.trim();
    const { skills } = await this._api.skills(asked);
    if (asked === this._search.value.trim()) {
      this._show(skills, asked);
    }
  }

  private _show(skills: ISkill[], asked: string): void {
    const listed = new Set(skills.map(skill => skill.id));
    for (const id of this._rows.keys()) {
      if (!listed.has(id)) {
        this._rows.delete(id);
      }
    }
    arrange(
      this._list,
      skills.map(skill => {
        const row = this._rows.get(skill.id) ?? new SkillRow(skill);
        this._rows.set(skill.id, row);
        row.update(skill);
        return row.node;
      })
    );
    const none = asked ? 'No skill has these words.' : 'No skills yet. Make one of a run: run.extract_skill("name")';
    setText(this._note, skills.length ? '' : none);
    this._note.hidden = skills.length > 0;
  }
}
