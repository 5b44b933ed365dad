/**
 * What failures leave of a run's time: training, saves, failures and restarts played through on a clock of their own, with random
 * numbers by key, so that the same question has the same answer.
 */

import { elementary, type RandomKey, randomKey, randomUniform } from '@sluice/core';

export interface FailureSettings {
  /** Mean time between failures of the whole, seconds. */
  readonly mtbfSeconds: number;
  /** From a failure until it is known. */
  readonly detectSeconds: number;
  /** From there until training goes on: hosts replaced, workers started, the state loaded. */
  readonly restartSeconds: number;
  /** How long training stands still for a save. */
  readonly stallSeconds: number;
  /** From the request of a save until it is durable. */
  readonly durableSeconds: number;
  readonly copies?: CopySettings | undefined;
}

/** Copies of the state in other hosts' memory. */
export interface CopySettings {
  /** Of training between two of them. */
  readonly intervalSeconds: number;
  /** How long training stands still for one. */
  readonly stallSeconds: number;
  /** Share of the failures after which they are still there; after the others the last checkpoint is gone back to. */
  readonly survival: number;
}

/** Where the time goes, as shares that add up to 1. */
export interface Goodput {
  /** Training that lasted. */
  readonly goodput: number;
  /** Training that was lost, and taken again. */
  readonly lost: number;
  /** Until failures were known, and the run went on. */
  readonly down: number;
  /** Training stood still for saves and copies. */
  readonly saving: number;
  /** In the simulated time, the mean of all runs. */
  readonly failures: number;
}

/** How long is simulated. */
export interface Horizon {
  readonly seconds: number;
  /** Of which the mean is taken. */
  readonly runs: number;
  readonly seed: number;
}

/** @param intervalSeconds of training between two saves; infinite for none */
export function simulateGoodput(
  settings: FailureSettings,
  intervalSeconds: number,
  { seconds, runs, seed }: Horizon,
): Goodput {
  const sums = { goodput: 0, lost: 0, down: 0, saving: 0, failures: 0 };
  for (let run = 0; run < runs; run++) {
    const { clock, useful, failures, spent } = playThrough(settings, intervalSeconds, {
      seconds,
      key: randomKey(seed, 'failures', run),
    });
    sums.goodput += useful / clock / runs;
    sums.lost += (spent.training - useful) / clock / runs;
    sums.down += spent.down / clock / runs;
    sums.saving += spent.saving / clock / runs;
    sums.failures += failures / runs;
  }
  return sums;
}

interface Outcome {
  readonly clock: number;
  /** Seconds of training that lasted. */
  readonly useful: number;
  readonly failures: number;
  readonly spent: Readonly<Record<'training' | 'down' | 'saving', number>>;
}

function playThrough(
  settings: FailureSettings,
  intervalSeconds: number,
  { seconds, key }: { readonly seconds: number; readonly key: RandomKey },
): Outcome {
  const { mtbfSeconds, copies } = settings;
  const spent = { training: 0, down: 0, saving: 0 };
  let [clock, useful, failures] = [0, 0, 0];
  // Seconds of training that a checkpoint, or copies in memory, hold.
  let [durable, copied] = [0, 0];
  let writing: { readonly useful: number; readonly at: number } | undefined;
  let nextFailure = untilFailure(key, 0, mtbfSeconds);

  /** Lets time pass; false where a failure, or the end, came first. */
  const pass = (kind: keyof typeof spent, duration: number): boolean => {
    const length = Math.min(duration, nextFailure - clock, seconds - clock);
    spent[kind] += length;
    if (kind === 'training') useful += length;
    clock += length;
    if (writing && writing.at <= clock) {
      durable = writing.useful;
      writing = undefined;
    }
    return length === duration;
  };
  const save = (): void => {
    if (writing && !pass('saving', writing.at - clock)) return;
    const begun = clock;
    if (pass('saving', settings.stallSeconds)) {
      writing = { useful, at: begun + Math.max(settings.stallSeconds, settings.durableSeconds) };
    }
  };
  const recover = (): void => {
    failures++;
    writing = undefined;
    const isCopied = copies && randomUniform(key, 2 * failures) < copies.survival;
    useful = isCopied ? Math.max(durable, copied) : durable;
    copied = useful;
    do {
      nextFailure = clock + untilFailure(key, 2 * failures + 1, mtbfSeconds);
      if (pass('down', settings.detectSeconds + settings.restartSeconds)) return;
      if (clock < seconds) failures++;
    } while (clock < seconds);
  };

  /** Takes the turns of training and saving together in which nothing happens. */
  const skipQuietTurns = (): void => {
    const { stallSeconds, durableSeconds } = settings;
    const turn = intervalSeconds + stallSeconds;
    const turns = Math.floor((Math.min(nextFailure, seconds) - clock) / turn) - 1;
    if (copies || durableSeconds > intervalSeconds || !(turns > 0)) return;
    clock += turns * turn;
    spent.training += turns * intervalSeconds;
    spent.saving += turns * stallSeconds;
    useful += turns * intervalSeconds;
    durable = useful - intervalSeconds;
    writing = { useful, at: clock - stallSeconds + Math.max(stallSeconds, durableSeconds) };
  };

  for (let [lastSave, lastCopy] = [0, 0]; clock < seconds; ) {
    if (useful === lastSave) {
      skipQuietTurns();
      lastSave = useful;
    }
    const untilSave = lastSave + intervalSeconds - useful;
    const untilCopy = copies ? lastCopy + copies.intervalSeconds - useful : Number.POSITIVE_INFINITY;
    pass('training', Math.max(0, Math.min(untilSave, untilCopy)));
    if (clock < nextFailure && untilSave <= untilCopy) {
      save();
      lastSave = useful;
    } else if (clock < nextFailure && copies && pass('saving', copies.stallSeconds)) {
      copied = useful;
      lastCopy = useful;
    }
    if (clock >= nextFailure) {
      recover();
      lastSave = useful;
      lastCopy = useful;
    }
  }
  return { clock, useful, failures, spent };
}

/** Failures come at random, whatever came before. */
function untilFailure(key: RandomKey, index: number, mtbfSeconds: number): number {
  return -mtbfSeconds * elementary.log(1 - randomUniform(key, index));
}

/** The interval between checkpoints by the first order: √(2·δ·M). Young, "A first order approximation to the optimum checkpoint interval", 1974. */
export function youngInterval({ stallSeconds, mtbfSeconds }: FailureSettings): number {
  return Math.sqrt(2 * stallSeconds * mtbfSeconds);
}

/** By a higher order. Daly, "A higher order estimate of the optimum checkpoint interval for restart dumps", 2006, eq. 37. */
export function dalyInterval({ stallSeconds, mtbfSeconds }: FailureSettings): number {
  const share = stallSeconds / (2 * mtbfSeconds);
  if (share >= 1) return mtbfSeconds;
  return Math.sqrt(2 * stallSeconds * mtbfSeconds) * (1 + Math.sqrt(share) / 3 + share / 9) - stallSeconds;
}

/** Intervals that are tried, against Young's: powers of the fourth root of 2, from an eighth to eight times. */
const TRIED = Array.from({ length: 25 }, (_, i) => 2 ** ((i - 12) / 4));

export interface IntervalTrial {
  readonly intervalSeconds: number;
  readonly goodput: number;
}

/** Goodput by interval, each met by the same failures. */
export function tryIntervals(settings: FailureSettings, horizon: Horizon): IntervalTrial[] {
  const young = Math.max(youngInterval(settings), settings.durableSeconds, 1);
  return TRIED.map((factor) => {
    const intervalSeconds = factor * young;
    return { intervalSeconds, goodput: simulateGoodput(settings, intervalSeconds, horizon).goodput };
  });
}

export function bestTrial(trials: readonly IntervalTrial[]): IntervalTrial {
  return trials.reduce((best, trial) => (trial.goodput > best.goodput ? trial : best));
}
