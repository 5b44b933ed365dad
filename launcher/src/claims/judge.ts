/**
 * Verdicts. A test takes a number from each seed, such as the difference of two rows, and asks on which side of a bound its mean
 * lies: supported where the whole interval lies on the side that is claimed, contradicted where it lies on the other, undecided
 * between.
 */

import { elementary, randomKey } from '@sluice/core';
import {
  type ExperimentResults,
  type ExperimentRun,
  type FindLrResults,
  type Interval,
  mean,
  meanInterval,
} from '@sluice/observe';
import { type Claim, type ClaimTest, isOfRetrieval } from './config.ts';

export type Verdict = 'supported' | 'contradicted' | 'undecided';

export interface Judged {
  readonly verdict: Verdict;
  /** Mean of what the test takes from each seed; null where there is none. */
  readonly effect: number | null;
  readonly interval: Interval | null;
  /** Seeds that gave a number. */
  readonly seeds: number;
  /** In words: what was compared, and how it came out. */
  readonly text: string;
}

export interface JudgedTest extends Judged {
  readonly test: ClaimTest;
}

export interface JudgedClaim {
  readonly claim: Claim;
  readonly verdict: Verdict;
  /** What the claim supposes. */
  readonly requires: readonly JudgedTest[];
  readonly tests: readonly JudgedTest[];
}

/** The results of an experiment, where it has been run. */
export interface KnownResults {
  experiment(path: string): ExperimentResults | undefined;
  findLr(path: string): FindLrResults | undefined;
}

/** All tests of a claim must hold; one that is contradicted contradicts it, where there is what it supposes. */
export function judgeClaim(claim: Claim, known: KnownResults): JudgedClaim {
  const judgeAll = (tests: readonly ClaimTest[]) =>
    tests.map((test) => ({ test, ...judgeTest(test, known) }));
  const [requires, tests] = [judgeAll(claim.requires), judgeAll(claim.tests)];
  const isTestable = tests.length > 0 && requires.every(({ verdict }) => verdict === 'supported');
  const worst = (['contradicted', 'undecided'] as const).find((one) =>
    tests.some(({ verdict }) => verdict === one),
  );
  return { claim, verdict: isTestable ? (worst ?? 'supported') : 'undecided', requires, tests };
}

export function judgeTest(test: ClaimTest, known: KnownResults): Judged {
  if (test.kind === 'stable-rate') {
    const results = known.findLr(test.experiment);
    return results ? judgeRates(test, results) : notRun();
  }
  const results = known.experiment(test.experiment);
  return results ? judgeRuns(test, results) : notRun();
}

function notRun(): Judged {
  return { verdict: 'undecided', effect: null, interval: null, seeds: 0, text: 'has not been run' };
}

type RunsTest = Exclude<ClaimTest, { kind: 'stable-rate' }>;

function judgeRuns(test: RunsTest, results: ExperimentResults): Judged {
  const { bounds, numberOf, text } = questionOf(test, (name, seed) =>
    results.runs.find((run) => run.row === name && run.seed === seed),
  );
  const values = results.seeds.map(numberOf);
  const known = values.filter((value) => value !== undefined);
  const judged = judgeNumbers(known, bounds, [test.kind, text]);
  const lacking = values.length - known.length;
  const survives = lacking > 0 ? divergence(test, results) : undefined;
  if (survives) return { ...judged, verdict: survives.verdict, text: `${text}: ${survives.text}` };
  const rest = lacking === 0 ? '' : `; ${lacking} of ${values.length} seeds lack a number`;
  return { ...judged, text: `${text}${rest}` };
}

/** Where one of two rows has diverged with every seed and the other with none, that is the answer. */
function divergence(
  test: RunsTest,
  { runs }: ExperimentResults,
): { readonly verdict: Verdict; readonly text: string } | undefined {
  if (test.kind !== 'compare' || test.measure !== 'validationLoss' || test.expect === 'same')
    return undefined;
  const all = (name: string, outcome: string) => {
    const own = runs.filter(({ row }) => row === name);
    return own.length > 0 && own.every((run) => run.outcome === outcome);
  };
  for (const [lower, higher] of [
    [test.row, test.than],
    [test.than, test.row],
  ] as const) {
    if (!all(lower, 'finished') || !all(higher, 'diverged')) continue;
    const holds = (lower === test.row) === (test.expect === 'lower');
    return {
      verdict: holds ? 'supported' : 'contradicted',
      text: `${higher} diverged with every seed, ${lower} with none`,
    };
  }
  return undefined;
}

/** Where the mean is to lie: above `low` and below `high`. */
interface Bounds {
  readonly low: number;
  readonly high: number;
  /** Whether the ends belong to it. */
  readonly isClosed?: boolean;
}

interface Question {
  readonly bounds: Bounds;
  /** Undefined where a run lacks what is needed. */
  readonly numberOf: (seed: number) => number | undefined;
  readonly text: string;
}

type FindRun = (row: string, seed: number) => ExperimentRun | undefined;

function questionOf(test: RunsTest, find: FindRun): Question {
  const { question } = test;
  const of = (row: string, seed: number, layer?: number) => measured(find(row, seed), test, layer);
  const measure = question === undefined ? test.measure : `${test.measure} (${question})`;
  switch (test.kind) {
    case 'compare': {
      const { row, than, layer, thanLayer, expect, by, factor } = test;
      const log = factor !== undefined;
      return {
        bounds: compareBounds(expect, log ? elementary.log(factor) : by, log),
        numberOf: (seed) => {
          const [ours, theirs] = [of(row, seed, layer), of(than, seed, thanLayer)];
          if (ours === undefined || theirs === undefined) return undefined;
          if (!log) return ours - theirs;
          return ours > 0 && theirs > 0 ? elementary.log(ours / theirs) : undefined;
        },
        text: `${log ? 'log ratio of ' : ''}${measure} of ${placeOf(row, layer)} to ${placeOf(than, thanLayer)}`,
      };
    }
    case 'level':
      return {
        bounds:
          test.expect === 'below'
            ? { low: Number.NEGATIVE_INFINITY, high: test.bound }
            : { low: test.bound, high: Number.POSITIVE_INFINITY },
        numberOf: (seed) => of(test.row, seed, test.layer),
        text: `${measure} of ${placeOf(test.row, test.layer)}, to be ${test.expect} ${test.bound}`,
      };
    case 'share': {
      const { row, than, of: whole, atLeast } = test;
      return {
        bounds: { low: 0, high: Number.POSITIVE_INFINITY },
        numberOf: (seed) => {
          const [ours, base, best] = [of(row, seed), of(than, seed), of(whole, seed)];
          if (ours === undefined || base === undefined || best === undefined) return undefined;
          return base - ours - atLeast * (base - best);
        },
        text: `gain of ${row} over ${than} in ${measure}, less ${atLeast} of that of ${whole}`,
      };
    }
    case 'interaction': {
      const { row, than, otherRow, otherThan, expect } = test;
      return {
        bounds: compareBounds(expect, 0, false),
        numberOf: (seed) => {
          const values = [of(row, seed), of(than, seed), of(otherRow, seed), of(otherThan, seed)];
          const [ours, base, otherOurs, otherBase] = values;
          if (
            ours === undefined ||
            base === undefined ||
            otherOurs === undefined ||
            otherBase === undefined
          ) {
            return undefined;
          }
          return ours - base - (otherOurs - otherBase);
        },
        text: `${measure}: (${row} − ${than}) − (${otherRow} − ${otherThan})`,
      };
    }
  }
}

function placeOf(row: string, layer: number | undefined): string {
  return layer === undefined ? row : `${row}, layer ${layer}`;
}

/** @param by a difference that is meant to have a sign, or with `isLog` the logarithm of a factor that has its own */
function compareBounds(expect: 'lower' | 'higher' | 'same', by: number, isLog: boolean): Bounds {
  const open = { low: Number.NEGATIVE_INFINITY, high: Number.POSITIVE_INFINITY };
  if (expect === 'lower') return { ...open, high: isLog ? by : -by };
  if (expect === 'higher') return { ...open, low: by };
  return { low: -Math.abs(by), high: Math.abs(by), isClosed: true };
}

function measured(
  run: ExperimentRun | undefined,
  { measure, question }: Pick<RunsTest, 'measure' | 'question'>,
  layer?: number,
): number | undefined {
  // How often the loss leapt is known of a run that diverged, too.
  if (measure === 'spikes' && run?.outcome === 'diverged') return run.spikes;
  if (run?.outcome !== 'finished') return undefined;
  if (measure === 'validationLoss' || measure === 'trainLoss' || measure === 'spikes') {
    return run[measure] ?? undefined;
  }
  if (isOfRetrieval(measure)) return run.retrieval?.[question!]?.[measure];
  const diagnosis = layer === undefined ? run.diagnosis : run.diagnosis?.layers[layer];
  return diagnosis?.[measure] ?? undefined;
}

/** Says on which side the mean lies, as sure as its interval lets one be. */
function judgeNumbers(
  values: readonly number[],
  { low, high, isClosed = false }: Bounds,
  purpose: readonly string[],
): Omit<Judged, 'text'> {
  if (values.length === 0) return { verdict: 'undecided', effect: null, interval: null, seeds: 0 };
  const effect = mean(values);
  const interval = meanInterval(values, randomKey(1, 'claims', ...purpose)) ?? null;
  const [from, to] = interval
    ? [interval.low, interval.high]
    : [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY];
  const isWithin = isClosed ? from >= low && to <= high : from > low && to < high;
  const isBeyond = isClosed ? to < low || from > high : to <= low || from >= high;
  const verdict = isWithin ? 'supported' : isBeyond ? 'contradicted' : 'undecided';
  return { verdict, effect, interval, seeds: values.length };
}

/** Rates are steps of a grid: seeds that agree on the step leave no interval, and differ by less than a step. */
function judgeRates(test: Extract<ClaimTest, { kind: 'stable-rate' }>, results: FindLrResults): Judged {
  const searchOf = (name: string, seed: number) =>
    results.variants.find((variant) => variant.name === name)?.seeds.find((one) => one.seed === seed);
  const seeds = [...new Set(results.variants.flatMap((variant) => variant.seeds.map(({ seed }) => seed)))];
  const logs = seeds.flatMap((seed) => {
    const [ours, theirs] = [searchOf(test.row, seed), searchOf(test.than, seed)];
    if (!ours?.largestStable || !theirs?.largestStable) return [];
    // Two that are stable at every rate may differ beyond it.
    if (ours.smallestUnstable === null && theirs.smallestUnstable === null) return [];
    return [elementary.log(ours.largestStable / theirs.largestStable)];
  });
  const lacking = seeds.length - logs.length;
  const rest =
    lacking === 0
      ? ''
      : `; with ${lacking} of ${seeds.length} seeds both are stable at every rate that was tried, or one at none`;
  const step = elementary.log(results.resolution);
  const text = `log ratio of the largest stable rates of ${test.row} to ${test.than} (the grid’s own step is ${step.toFixed(2)})${rest}`;
  // Less than half a step cannot be told from none.
  const bounds = compareBounds(test.expect, step / 2, false);
  return { ...judgeNumbers(logs, bounds, ['rates', test.row, test.than]), text };
}
