/** Outlying steps put together: a spike that people see is an episode of several. */

import { CALM_STEPS, type FirstMove, type SpikeEvent } from './spikes.ts';

/** Outlying steps that came with no long calm between them. */
export interface SpikeEpisode {
  /** Its first and last outlying steps. */
  readonly start: number;
  readonly end: number;
  /** How many outlying steps it has. */
  readonly points: number;
  /** The step that stood out most: by its loss where a loss was outlying, by its gradient norm otherwise. */
  readonly peak: number;
  readonly signal: SpikeEvent['signal'];
  /** Of that signal at the peak, as `SpikeEvent` has them. */
  readonly value: number;
  readonly median: number;
  readonly excess: number;
  readonly score: number;
  /** What it began with, which may be a group of parameters some steps before. Absent in the journals of older versions. */
  readonly first?: FirstMove | undefined;
}

/**
 * Puts things that tell of an outlying step each into episodes. Those belong together that the detector saw begin with the
 * same move: fewer than `CALM_STEPS` ordinary steps, or points of a recorded curve, between one outlier and the next. Where
 * steps descend, the run has gone back, and what follows is another episode.
 * @param items oldest first
 */
export function groupByEpisode<T>(items: readonly T[], eventOf: (item: T) => SpikeEvent): T[][] {
  const episodes: T[][] = [];
  for (const item of items) {
    const last = episodes.at(-1);
    if (last && belongTogether(eventOf(last.at(-1)!), eventOf(item))) last.push(item);
    else episodes.push([item]);
  }
  return episodes;
}

function belongTogether(before: SpikeEvent, event: SpikeEvent): boolean {
  if (event.step <= before.step) return false;
  if (before.first && event.first) return before.first.step === event.first.step;
  return event.step - before.step <= CALM_STEPS;
}

/** @param events of one episode, at least one */
export function describeEpisode(events: readonly SpikeEvent[]): SpikeEpisode {
  const [first, last] = [events[0]!, events.at(-1)!];
  const losses = events.filter(({ signal }) => signal === 'loss');
  const { step: peak, ...atPeak } = (losses.length > 0 ? losses : events).reduce(higher);
  return {
    ...{ start: first.step, end: last.step, points: events.length, peak },
    ...atPeak,
    first: first.first,
  };
}

/** What is not finite is higher than everything, the first of those. */
function higher(a: SpikeEvent, b: SpikeEvent): SpikeEvent {
  const rank = ({ excess }: SpikeEvent) => (Number.isFinite(excess) ? excess : Number.POSITIVE_INFINITY);
  return rank(b) > rank(a) ? b : a;
}

/** The episodes of outlying steps. @param events oldest first */
export function episodesOf(events: readonly SpikeEvent[]): SpikeEpisode[] {
  return groupByEpisode(events, (event) => event).map(describeEpisode);
}
