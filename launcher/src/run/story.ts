/** A run's journal as a story: what happened, in a sentence each. */

import { counted, formatDuration, formatLoss, type StoryLine } from '@sluice/observe';
import type { JournalEntry, JournalKind } from './journal.ts';
import { recheckText } from './spikeHistory.ts';
import { rollbackSentence, spikeSentence } from './spikeSentences.ts';

type Told = Pick<StoryLine, 'tone' | 'text'>;
type Entry<Kind extends JournalKind> = Extract<JournalEntry, { kind: Kind }>;

const plain = (text: string): Told => ({ tone: 'plain', text });
const warning = (text: string): Told => ({ tone: 'warning', text });

/** Oldest first. A checkpoint is told once, when it is complete. */
export function storyOf(journal: readonly JournalEntry[]): StoryLine[] {
  return journal.flatMap((entry) => {
    const told = (TELL[entry.kind] as ((entry: JournalEntry) => Told | undefined) | undefined)?.(entry);
    return told ? [{ time: entry.time, step: entry.step, ...told }] : [];
  });
}

const TELL: { readonly [Kind in JournalKind]: (entry: Entry<Kind>) => Told | undefined } = {
  start: ({ workers, expertParallel, from }) =>
    plain(
      `The run began on ${workersText(workers, expertParallel)}${from ? `, with the weights of ${from.path}` : ''}.`,
    ),
  resume: ({ checkpoint, fromMemory, workers, expertParallel, changes, refusedCheckpoints }) => {
    const changed = changes.map(({ key, saved, now }) => `${key} from ${shown(saved)} to ${shown(now)}`);
    const refused = refusedCheckpoints.map(({ path, reason }) => `${path} was refused: ${reason}`);
    const resumed = `The run was resumed ${sourceText(checkpoint, fromMemory)} on ${workersText(workers, expertParallel)}`;
    const parts = [resumed, ...(changed.length > 0 ? [`changed: ${changed.join(', ')}`] : []), ...refused];
    return plain(`${parts.join('; ')}.`);
  },
  restart: ({ message, checkpoint, fromMemory, workers, expertParallel, hosts }) => ({
    tone: 'error',
    text: `${withPeriod(message)} The run goes on ${sourceText(checkpoint, fromMemory)} on ${workersText(workers, expertParallel)}${hosts ? `, on ${hosts.join(', ')}` : ''}.`,
  }),
  regroup: ({ workers, expertParallel, hosts }) =>
    plain(`Workers were spread anew: ${workersText(workers, expertParallel)} on ${hosts.join(', ')}.`),
  resize: ({ from, to }) =>
    plain(
      `From ${workersText(from.workers, from.expertParallel)} to ${workersText(to.workers, to.expertParallel)}.`,
    ),
  save: () => undefined,
  staged: () => undefined,
  saveFailed: ({ message }) => warning(`A checkpoint could not be saved: ${message}`),
  commit: ({ path, weights }) => ({ tone: 'good', text: `Saved ${path}, weights ${weights.slice(0, 12)}.` }),
  evaluate: ({ loss }) =>
    plain(`Validation loss ${typeof loss === 'number' ? formatLoss(loss) : loss} nats a token.`),
  nonFinite: ({ loss, gradientNorm, inARow }) =>
    warning(`Loss ${loss}, gradient norm ${gradientNorm}: the update was left out (${inARow} in a row).`),
  straggler: ({ rank, host, isSlow, ratio, at }) =>
    isSlow
      ? warning(
          `Rank ${rank} on ${host} takes ${ratio.toFixed(2)} times as long as the others, most of it ${at}.`,
        )
      : plain(`Rank ${rank} on ${host} is as fast as the others again.`),
  stall: ({ task, seconds, missing }) =>
    warning(
      `${task} has taken ${formatDuration(seconds)}; waiting for ${missing.map(({ rank, host }) => `rank ${rank} on ${host}`).join(', ')}.`,
    ),
  spike: ({ event, skipped }) => warning(spikeSentence(event, skipped === true)),
  rollback: ({ decision, leftOut }) => warning(rollbackSentence(decision, leftOut)),
  recheck: (entry) => ({ tone: 'error', text: recheckText(entry) }),
  stop: ({ reason, message }) => ({ tone: STOP_TONES[reason], text: message ?? STOP_TEXTS[reason] }),
};

const STOP_TEXTS: Readonly<Record<Entry<'stop'>['reason'], string>> = {
  finished: 'The run finished.',
  signal: 'The run was stopped by a signal.',
  lastStep: 'The run stopped after the step that was asked for.',
  nonFinite: 'The run stopped, as no update was finite any more.',
  spike: 'The run stopped for a spike.',
  failed: 'The run failed.',
};

const STOP_TONES: Readonly<Record<Entry<'stop'>['reason'], StoryLine['tone']>> = {
  finished: 'good',
  signal: 'plain',
  lastStep: 'plain',
  nonFinite: 'error',
  spike: 'error',
  failed: 'error',
};

function workersText(workers: number, expertParallel: number): string {
  const count = counted(workers, 'worker');
  return expertParallel > 1 ? `${count}, ${expertParallel} of them for each set of experts` : count;
}

function sourceText(checkpoint: string | undefined, fromMemory: boolean | undefined): string {
  if (fromMemory) return 'from copies in memory';
  return checkpoint === undefined ? 'from the beginning' : `from ${checkpoint}`;
}

function shown(value: unknown): string {
  return value === undefined ? 'nothing' : JSON.stringify(value);
}

function withPeriod(message: string): string {
  return /[.!?]$/.test(message) ? message : `${message}.`;
}
