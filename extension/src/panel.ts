import { Message } from '@lumino/messaging';
import { Widget } from '@lumino/widgets';

import { Api, IApproval, IProblem, IRun } from './api';
import { arrange, element, setText } from './dom';
import { GateCard } from './gate';
import { panelIcon } from './icon';
import { RunRow } from './row';
import { SkillList } from './skills';

/** Milliseconds between looks at the server while the panel is seen, and while it is not. */
const SEEN = 1500;
const UNSEEN = 10000;
/** The longest wait while the server does not answer as it should. */
const PATIENT = 15000;
const MAX_RUNS = 100;

/**
 * The side bar: open gates on top, then the newest runs of all workspaces, or their skills.
 *
 * It looks at the server while it is seen. While it is hidden it only asks now and then
 * whether a gate waits, to mark its tab; in a browser tab in the background it asks nothing.
 */
export class RunPanel extends Widget {
  private readonly _api = new Api();
  private readonly _gateCards = new Map<string, GateCard>();
  private readonly _rows = new Map<string, RunRow>();
  private readonly _fault = element('div', 'cmb-fault cmb-error');
  private readonly _lost = element('div', 'cmb-fault cmb-error');
  private readonly _gatesTitle = element('h2', 'cmb-heading');
  private readonly _gates = element('div', 'cmb-gates');
  private readonly _tabs = element('div', 'cmb-tabs');
  private readonly _runsTab = element('button', 'cmb-tab', 'Runs');
  private readonly _skillsTab = element('button', 'cmb-tab', 'Skills');
  private readonly _skills = new SkillList(this._api, () => void this.refresh());
  private readonly _runsPage = element('div', 'cmb-page');
  private readonly _runs = element('ul', 'cmb-runs');
  private readonly _problems = element('div', 'cmb-problems');
  private readonly _empty = emptyState();
  private readonly _announcer = element('div', 'cmb-visually-hidden');
  private _timer = 0;
  private _looking = false;
  private _again = false;
  private _failures = 0;

  constructor() {
    super();
    this.id = 'cmbagent-panel';
    this.addClass('cmb-panel');
    this.title.icon = panelIcon;
    this.title.caption = 'cmbagent: runs and open gates';
    this.node.setAttribute('role', 'region');
    this.node.setAttribute('aria-label', 'cmbagent');
    this._fault.setAttribute('role', 'alert');
    this._announcer.setAttribute('role', 'status');
    this.node.append(
      element('header', 'cmb-header', 'cmbagent'),
      this._fault,
      this._lost,
      this._gatesTitle,
      this._gates,
      this._tabs,
      this._runsPage,
      this._skills.node,
      this._problems,
      this._announcer
    );
    this._runsPage.append(this._runs, this._empty);
    this._gatesTitle.hidden = this._empty.hidden = this._fault.hidden = this._lost.hidden = true;
    this._lost.setAttribute('role', 'alert');
    this._makeTabs();
    document.addEventListener('visibilitychange', this._wake);
    this._wake();
  }

  dispose(): void {
    document.removeEventListener('visibilitychange', this._wake);
    window.clearTimeout(this._timer);
    super.dispose();
  }

  /** Look at the server now. */
  async refresh(): Promise<void> {
    if (this._looking) {
      this._again = true;
      return;
    }
    this._looking = true;
    window.clearTimeout(this._timer);
    try {
      do {
        this._again = false;
        await this._look();
      } while (this._again);
    } finally {
      this._looking = false;
      if (!this.isDisposed && !document.hidden) {
        const usual = this.isVisible ? SEEN : UNSEEN;
        const wait = this._failures ? Math.max(usual, Math.min(PATIENT, usual * 2 ** this._failures)) : usual;
        this._timer = window.setTimeout(() => void this.refresh(), wait);
      }
    }
  }

  protected onAfterShow(message: Message): void {
    super.onAfterShow(message);
    void this.refresh();
  }

  private readonly _wake = (): void => {
    if (!document.hidden) {
      void this.refresh();
    }
  };

  private async _look(): Promise<void> {
    try {
      const seen = this.isVisible;
      const [{ approvals }, listing] = await Promise.all([
        this._api.pending(),
        seen && !this._runsPage.hidden ? this._api.runs(MAX_RUNS) : Promise.resolve(null),
        seen && this._runsPage.hidden ? this._skills.look() : Promise.resolve()
      ]);
      this._failures = 0;
      this._fault.hidden = true;
      this._showGates(approvals);
      if (listing) {
        this._showRuns(listing.runs);
        this._showProblems(listing.problems);
        this._empty.hidden = listing.runs.length > 0;
      }
    } catch (error) {
      this._failures += 1;
      setText(this._fault, (error as Error).message);
      this._fault.hidden = false;
      this._empty.hidden = true;
    }
  }

  private _makeTabs(): void {
    this._tabs.setAttribute('role', 'tablist');
    this._tabs.append(this._runsTab, this._skillsTab);
    const pages: [HTMLButtonElement, HTMLElement][] = [
      [this._runsTab, this._runsPage],
      [this._skillsTab, this._skills.node]
    ];
    const select = (chosen: HTMLElement) => {
      for (const [tab, page] of pages) {
        tab.setAttribute('aria-selected', String(tab === chosen));
        page.hidden = tab !== chosen;
      }
      void this.refresh();
    };
    for (const [tab, page] of pages) {
      tab.type = 'button';
      tab.setAttribute('role', 'tab');
      page.setAttribute('role', 'tabpanel');
      tab.addEventListener('click', () => select(tab));
    }
    this._runsTab.setAttribute('aria-selected', 'true');
    this._skills.node.hidden = true;
  }

  private _showGates(approvals: IApproval[]): void {
    const fresh = approvals.filter(approval => !this._gateCards.has(approval.id));
    for (const approval of fresh) {
      this._gateCards.set(approval.id, new GateCard(approval, this._api, lost => this._decided(lost)));
    }
    const open = new Set(approvals.map(approval => approval.id));
    for (const [id, card] of this._gateCards) {
      if (open.has(id)) {
        card.refresh();
      } else {
        this._gateCards.delete(id);
      }
    }
    arrange(
      this._gates,
      approvals.map(approval => this._gateCards.get(approval.id)!.node)
    );
    if (fresh.length) {
      setText(this._announcer, `Waiting for you: ${fresh.map(approval => approval.shown?.title ?? 'a decision').join('; ')}`);
    }
    const count = approvals.length;
    this._gatesTitle.hidden = count === 0;
    setText(this._gatesTitle, count === 1 ? 'Waiting for you' : `Waiting for you (${count})`);
    this.title.className = count ? 'cmb-tab-waiting' : '';
    this.title.caption = count ? `cmbagent: ${count} open gate${count === 1 ? '' : 's'}` : 'cmbagent: runs and open gates';
  }

  /** Say which decision holds when another was faster, and look again. */
  private _decided(lost: string): void {
    setText(this._lost, lost);
    this._lost.hidden = !lost;
    void this.refresh();
  }

  private _showRuns(runs: IRun[]): void {
    const listed = new Set(runs.map(run => run.id));
    for (const id of this._rows.keys()) {
      if (!listed.has(id)) {
        this._rows.delete(id);
      }
    }
    const nodes = runs.map(run => {
      const row = this._rows.get(run.id);
      if (row) {
        row.update(run);
        return row.node;
      }
      const made = new RunRow(run, this._api, () => void this.refresh());
      this._rows.set(run.id, made);
      return made.node;
    });
    arrange(this._runs, nodes);
  }

  private _showProblems(problems: IProblem[]): void {
    const texts = problems.map(problem => `${problem.workspace}: ${problem.error} ${problem.next_step}`.trim());
    if (texts.join('\n') !== this._problems.dataset.shown) {
      this._problems.dataset.shown = texts.join('\n');
      this._problems.replaceChildren(...texts.map(text => element('p', 'cmb-error', text)));
    }
  }
}

function emptyState(): HTMLElement {
  return element('div', 'cmb-empty', '', [
    element('p', '', 'No runs yet. Start one from a notebook cell:'),
    element('pre', 'cmb-code', '%load_ext cmbagent_nb\n\n%%cmbagent plan --approve plan\nYour task in a sentence or two'),
    element('p', '', 'It shows up here with its status, and its gates can be answered here.')
  ]);
}
