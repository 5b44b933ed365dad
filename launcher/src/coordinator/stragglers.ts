/**
 * Which worker the others wait for, step after step. Workers step together, so a slow one shows in no one's step time: what
 * counts is its own work, which is all of a step but the waiting for others.
 */

import { formatSeconds } from '@sluice/observe';
import type { StepSeconds } from '@sluice/train';
import type { Journal } from '../run/journal.ts';
import type { AfterStep } from './trainingRun.ts';

/** Steps are looked at in slices of at least one step and so many seconds … */
const SLICE_SECONDS = 2;
/** … of which so many make up a window: at least so many steps, and more than a minute. */
const WINDOW_SLICES = 32;
/** A worker is slow whose work takes so many times as long as the usual one's, in the middle of the window … */
const SLOW = 1.25;
/** … and longer than the usual one's in this share of its slices; … */
const SLOW_SHARE = 0.75;
/** … until it takes less than so many times as long. */
const RECOVERED = 1.1;

const PARTS = ['compute', 'optimize', 'communicate'] as const;
type Part = (typeof PARTS)[number];

/** As people are told what a worker is slow at. */
const PART_NAMES: Readonly<Record<Part, string>> = {
  compute: 'computing',
  optimize: 'the optimizer',
  communicate: 'moving bytes',
};

/** Means of one worker over a slice, seconds a step. */
type Work = Readonly<Record<Part | 'own', number>>;

export interface StragglerFinding {
  readonly rank: number;
  /** False: it has been slow, and is no more. */
  readonly isSlow: boolean;
  /** Its own work in a step, as a multiple of the usual worker's. */
  readonly ratio: number;
  readonly ownSeconds: number;
  readonly usualSeconds: number;
  /** What most of the difference is. */
  readonly at: string;
}

export class StragglerWatch {
  /** The last slices, oldest first; each has the work of all ranks. */
  readonly #slices: Work[][] = [];
  readonly #slow = new Set<number>();
  #steps: (readonly StepSeconds[])[] = [];
  #seconds = 0;

  /**
   * Takes a step's times, in order of ranks.
   * @returns what has changed: who has become slow, and who is no more
   */
  observe(ranks: readonly StepSeconds[], seconds: number): StragglerFinding[] {
    this.#steps.push(ranks);
    this.#seconds += seconds;
    if (this.#seconds < SLICE_SECONDS) return [];
    this.#slices.push(ranks.map((_, rank) => meanWork(this.#steps.map((step) => step[rank]!))));
    this.#steps = [];
    this.#seconds = 0;
    if (this.#slices.length > WINDOW_SLICES) this.#slices.shift();
    return this.#slices.length < WINDOW_SLICES ? [] : ranks.flatMap((_, rank) => this.#judge(rank) ?? []);
  }

  #judge(rank: number): StragglerFinding | undefined {
    const ownSeconds = this.#middle(rank, 'own');
    const usualSeconds = this.#usual('own');
    const ratio = ownSeconds / usualSeconds;
    const isLonger = (slice: readonly Work[]) =>
      slice[rank]!.own > RECOVERED * lowerMedian(slice.map(({ own }) => own));
    const share = this.#slices.filter(isLonger).length / this.#slices.length;
    const wasSlow = this.#slow.has(rank);
    const isSlow = wasSlow ? ratio > RECOVERED : ratio > SLOW && share >= SLOW_SHARE;
    if (isSlow === wasSlow) return undefined;
    if (isSlow) this.#slow.add(rank);
    else this.#slow.delete(rank);
    const excess = (part: Part) => this.#middle(rank, part) - this.#usual(part);
    const at = PARTS.reduce((most, part) => (excess(part) > excess(most) ? part : most));
    return { rank, isSlow, ratio, ownSeconds, usualSeconds, at: PART_NAMES[at] };
  }

  #middle(rank: number, part: Part | 'own'): number {
    return lowerMedian(this.#slices.map((slice) => slice[rank]![part]));
  }

  /** Of the worker in the middle; of two, the faster one is how fast it can be done. */
  #usual(part: Part | 'own'): number {
    return lowerMedian(this.#slices[0]!.map((_, rank) => this.#middle(rank, part)));
  }
}

function meanWork(steps: readonly StepSeconds[]): Work {
  const mean = (of: (step: StepSeconds) => number) =>
    steps.reduce((sum, step) => sum + of(step), 0) / steps.length;
  return {
    own: mean(({ total, waiting }) => total - waiting),
    compute: mean(({ compute }) => compute),
    optimize: mean(({ optimize }) => optimize),
    communicate: mean(({ communicate }) => communicate),
  };
}

function lowerMedian(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[(values.length - 1) >> 1]!;
}

/** In words, for the console. */
export function stragglerLine(name: string, finding: StragglerFinding): string {
  const { isSlow, ratio, ownSeconds, usualSeconds, at } = finding;
  if (!isSlow) return `${name} keeps up with the others again`;
  return `${name} is slow: for more than a minute its own work has taken ${ratio.toFixed(2)} times as long as usual (${formatSeconds(ownSeconds)} a step, not ${formatSeconds(usualSeconds)}), most of all ${at}; the others wait for it`;
}

/** Watches a run's steps, of one start of its workers, and tells and journals who is slow for long. */
export function stragglersAfterStep(
  placeOf: (rank: number) => { readonly name: string; readonly host: string },
  journal: Journal,
  tell: (line: string) => void,
): AfterStep {
  const watch = new StragglerWatch();
  return async (_run, { result: { step }, ranks, seconds }) => {
    for (const finding of watch.observe(ranks, seconds)) {
      const { name, host } = placeOf(finding.rank);
      tell(stragglerLine(name, finding));
      journal.note('straggler', step, { host, ...finding });
    }
  };
}
