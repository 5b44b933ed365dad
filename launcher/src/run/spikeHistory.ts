/** The spikes of a run as its journal has them: episodes, and what was decided about each. */

import { formatLoss, formatNumber, groupDigits, type ReportSpike } from '@sluice/observe';
import { describeEpisode, groupByEpisode, type SpikeEpisode, type SpikeEvent } from '@sluice/train';
import { describeFirstMove, spanText } from './episodeText.ts';
import type { JournalEntry } from './journal.ts';
import { givenUpSteps, type RollbackEntry } from './rollbacks.ts';

type SpikeEntry = Extract<JournalEntry, { kind: 'spike' }>;

/** A spike, and what was done. */
export interface HandledEpisode extends SpikeEpisode {
  /** Steps whose update was left out. */
  readonly skipped: number;
  /** Where the run went back for it. */
  readonly rollback?: RollbackEntry | undefined;
  /** Whether the run stopped for it. */
  readonly isStop: boolean;
}

interface Noted {
  readonly entry: SpikeEntry;
  rollback?: RollbackEntry;
  /** The step was taken again, and what was noted of it is told by that. */
  isTakenAgain?: boolean;
}

/**
 * Oldest first: those of the steps that the run rests on, and those that it went back for. What was noted of steps that were
 * taken again after a fault is there once, and of futures that were given up with their configuration there is nothing.
 * @param journal oldest entry first
 */
export function spikeHistory(journal: readonly JournalEntry[]): HandledEpisode[] {
  const held = new Set(givenUpSteps(journal).map(({ entry }) => entry));
  const stops = new Set<number>();
  const noted: Noted[] = [];
  /** Those that the run rests on, steps ascending: each is looked at once more when it is none of them any longer. */
  const standing: Noted[] = [];
  const takeBack = (first: number, mark: Partial<Noted>) => {
    while (standing.length > 0 && standing.at(-1)!.entry.step >= first) Object.assign(standing.pop()!, mark);
  };
  for (const entry of journal) {
    if (entry.kind === 'spike') {
      // A way back whose state was not in memory leads to an earlier one, from which steps are taken again.
      takeBack(entry.step, { isTakenAgain: true });
      const one = { entry };
      noted.push(one);
      standing.push(one);
    } else if (entry.kind === 'stop' && entry.reason === 'spike') stops.add(entry.step);
    else if (entry.kind === 'rollback') takeBack(entry.decision.to + 1, { rollback: entry });
    else if (entry.kind === 'resume' || entry.kind === 'restart') {
      takeBack(entry.step + 1, { isTakenAgain: true });
      for (const step of stops) if (step > entry.step) stops.delete(step);
    }
  }
  const resting = noted.filter(
    ({ rollback, isTakenAgain }) => !isTakenAgain && (rollback === undefined || held.has(rollback)),
  );
  return stretchesOf(resting).flatMap((stretch) =>
    groupByEpisode(stretch, ({ entry }) => revived(entry.event)).map((notes) => ({
      ...describeEpisode(notes.map(({ entry }) => revived(entry.event))),
      skipped: notes.filter(({ entry }) => entry.skipped).length,
      rollback: notes.at(-1)!.rollback,
      isStop: stops.has(notes.at(-1)!.entry.step),
    })),
  );
}

/** Cut where the run went back: what came before and after are not the same steps. */
function stretchesOf(noted: readonly Noted[]): Noted[][] {
  const stretches: Noted[][] = [];
  for (const one of noted) {
    const last = stretches.at(-1);
    if (last && last[0]!.rollback === one.rollback) last.push(one);
    else stretches.push([one]);
  }
  return stretches;
}

/** JSON has null for what is not finite. */
function revived(event: SpikeEvent): SpikeEvent {
  const number = (value: number | null) => value ?? Number.NaN;
  const { value, median, excess, score } = event;
  return {
    ...event,
    ...{ value: number(value), median: number(median), excess: number(excess), score: number(score) },
  };
}

/** How high it was, over what was usual: `loss 7.1200 over 2.1000`. */
export function heightText({ signal, value, median }: SpikeEpisode): string {
  if (signal === 'loss') return `loss ${formatLoss(value)} over ${formatLoss(median)}`;
  return `gradient norm ${formatNumber(value)} over ${formatNumber(median)}`;
}

/** What was decided, in words. */
export function decisionText({ skipped, rollback, isStop, points }: HandledEpisode): string {
  const left = skipped === 0 ? [] : [skipped === points ? 'left out' : `${skipped} of ${points} left out`];
  const inARow = rollback && rollback.decision.level > 1 ? ` (${rollback.decision.level} in a row)` : '';
  const back = rollback ? [`back to step ${groupDigits(rollback.decision.to)}${inARow}`] : [];
  const parts = [...left.map((text) => `updates ${text}`), ...back, ...(isStop ? ['the run stopped'] : [])];
  return parts.length === 0 ? 'told' : parts.join(', ');
}

/** Samples that are left out for good, in words. */
export function leftOutText(rollback: RollbackEntry | undefined): string {
  if (!rollback) return '';
  const [first, end] = rollback.leftOut;
  return `${groupDigits(end - first)}: ${spanText(first, end - 1)}`;
}

/** What the learning rate is after the run went back, in words. */
export function rateText(rollback: RollbackEntry | undefined): string {
  if (!rollback || rollback.decision.rateUntil <= rollback.decision.to) return '';
  return `× ${rollback.decision.rateFactor} to step ${groupDigits(rollback.decision.rateUntil)}`;
}

/** Who computed something else than the others, in words. */
export function recheckText({ step, suspects }: Extract<JournalEntry, { kind: 'recheck' }>): string {
  const who = suspects.map(({ rank, host }) => `rank ${rank} on ${host}`).join(', ');
  const what =
    who === '' ? 'it cannot be told who computes wrongly' : `${who} computed something else than the others`;
  return `Step ${groupDigits(step)} was computed again, and other numbers came out: ${what}.`;
}

/** As the report shows them. */
export function reportSpikes(history: readonly HandledEpisode[]): ReportSpike[] {
  return history.map((episode) => ({
    ...{ start: episode.start, end: episode.end, peak: episode.peak },
    height: heightText(episode),
    first: describeFirstMove(episode.first, episode.start),
    decision: decisionText(episode),
    isGivenUp: episode.rollback !== undefined,
    leftOut: leftOutText(episode.rollback),
    rate: rateText(episode.rollback),
  }));
}
