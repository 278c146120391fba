/**
 * What a status looks like: a glyph and a word as well as a colour, so that no one depends on seeing colours.
 */

export interface IStatusLook {
  glyph: string;
  label: string;
  /** Which colour of the style sheet: `data-tone`. */
  tone: 'idle' | 'busy' | 'wait' | 'good' | 'bad';
}

const LOOKS: Record<string, IStatusLook> = {
  draft: { glyph: '○', label: 'draft', tone: 'idle' },
  pending: { glyph: '○', label: 'pending', tone: 'idle' },
  planning: { glyph: '●', label: 'planning', tone: 'busy' },
  executing: { glyph: '●', label: 'running', tone: 'busy' },
  running: { glyph: '●', label: 'running', tone: 'busy' },
  retrying: { glyph: '↻', label: 'retrying', tone: 'wait' },
  waiting_approval: { glyph: '◆', label: 'waiting for you', tone: 'wait' },
  paused: { glyph: '❚❚', label: 'paused', tone: 'wait' },
  completed: { glyph: '✔', label: 'completed', tone: 'good' },
  failed: { glyph: '✕', label: 'failed', tone: 'bad' },
  cancelled: { glyph: '⊘', label: 'cancelled', tone: 'idle' },
  interrupted: { glyph: '↯', label: 'interrupted', tone: 'bad' },
  skipped: { glyph: '»', label: 'skipped', tone: 'idle' }
};

/** The look of a status; one that is not known shows its own name. */
export function look(status: string): IStatusLook {
  return LOOKS[status] ?? { glyph: '○', label: status.replace(/_/g, ' '), tone: 'idle' };
}

/** Whether nothing more happens in a run of this status unless someone takes it up again. */
export function isOver(status: string): boolean {
  return ['completed', 'failed', 'cancelled', 'interrupted'].includes(status);
}
