/**
 * Rows of an experiment against each other: what the seeds of a row give together, and by how much a row differs from its baseline,
 * **paired by seed**: runs with the same seed share the order of the data, so that their difference varies less than either.
 *
 * A run that did not finish has no final loss. It enters no mean and no difference; it is counted and named instead, because what is
 * left then speaks of the seeds that finished only, which flatters a row that diverges.
 */

import { elementary, randomKey } from '@sluice/core';
import { formatRate } from '../format.ts';
import type { ExperimentResultRow, ExperimentResults, ExperimentRun } from './results.ts';
import { type Interval, mean, meanInterval, spread } from './statistics.ts';

/** Of the random numbers that intervals are drawn with: the same results have the same intervals. */
const SEED = 0;

/** A mean over seeds. */
export interface Estimate {
  readonly mean: number;
  /** Standard deviation; undefined for one seed. */
  readonly spread: number | undefined;
  /** Seeds that it is made of. */
  readonly seeds: number;
}

export interface RowSummary {
  readonly row: ExperimentResultRow;
  /** The row's method, with what tells it from other rows of that method. */
  readonly label: string;
  /** What computed its runs; empty where that is not known. */
  readonly arithmetic: string;
  /** In the order of the experiment's seeds. */
  readonly runs: readonly ExperimentRun[];
  /** Seeds of the experiment that the row has no run of. */
  readonly missing: readonly number[];
  readonly outcomes: Readonly<Record<ExperimentRun['outcome'], number>>;
  /** Ascending, each once. */
  readonly learningRates: readonly number[];
  /** Of the runs that finished, nats a token; undefined where none has it. So is each of the following. */
  readonly trainLoss: Estimate | undefined;
  readonly validationLoss: Estimate | undefined;
  readonly perplexity: Estimate | undefined;
  readonly firstTokenAttention: Estimate | undefined;
  readonly massiveActivation: Estimate | undefined;
  readonly gateScoreMean: Estimate | undefined;
  /** Share of prompts answered exactly, by the name of the question. */
  readonly retrieval: Readonly<Record<string, Estimate>>;
}

/** Names of what computed some runs, each once; undefined where that is not known of any. */
export function arithmeticOf(runs: readonly Pick<ExperimentRun, 'arithmetic'>[]): string | undefined {
  const names = [...new Set(runs.flatMap(({ arithmetic }) => arithmetic ?? []))];
  return names.length === 0 ? undefined : names.join(', ');
}

/** Whether rows were computed in several ways, which is then to be told of each. */
export function differInArithmetic(rows: readonly Pick<RowSummary, 'arithmetic'>[]): boolean {
  return new Set(rows.map(({ arithmetic }) => arithmetic).filter((name) => name !== '')).size > 1;
}

/** The rows in the order of the experiment, each with its runs. */
export function summarizeRows(results: ExperimentResults): RowSummary[] {
  const byRow = new Map<string, ExperimentRun[]>(results.rows.map(({ name }) => [name, []]));
  for (const run of results.runs) byRow.get(run.row)?.push(run);
  return results.rows.map((row): RowSummary => {
    const place = ({ seed }: ExperimentRun) => {
      const index = results.seeds.indexOf(seed);
      return index < 0 ? results.seeds.length : index;
    };
    const runs = byRow.get(row.name)!.toSorted((a, b) => place(a) - place(b));
    const finished = runs.filter(({ outcome }) => outcome === 'finished');
    const of = (value: (run: ExperimentRun) => number | null | undefined) => estimate(finished.map(value));
    const count = (outcome: ExperimentRun['outcome']) => runs.filter((run) => run.outcome === outcome).length;
    return {
      row,
      label: labelOf(row, results),
      arithmetic: arithmeticOf(runs) ?? '',
      runs,
      missing: results.seeds.filter((seed) => !runs.some((run) => run.seed === seed)),
      outcomes: {
        finished: finished.length,
        diverged: count('diverged'),
        failed: count('failed'),
        pending: count('pending'),
      },
      learningRates: [...new Set(runs.map(({ learningRate }) => learningRate))].sort((a, b) => a - b),
      trainLoss: of(({ trainLoss }) => trainLoss),
      validationLoss: of(({ validationLoss }) => validationLoss),
      perplexity: of(perplexityOf),
      firstTokenAttention: of(({ diagnosis }) => diagnosis?.firstTokenAttention),
      massiveActivation: of(({ diagnosis }) => diagnosis?.massiveActivation),
      gateScoreMean: of(({ diagnosis }) => diagnosis?.gateScoreMean),
      retrieval: Object.fromEntries(
        questionsOf(finished).map((name) => [name, of(({ retrieval }) => retrieval?.[name]?.accuracy)!]),
      ),
    };
  });
}

/** What runs were asked, in the order of the experiment. */
export function questionsOf(runs: readonly Pick<ExperimentRun, 'retrieval'>[]): string[] {
  return [...new Set(runs.flatMap(({ retrieval }) => Object.keys(retrieval ?? {})))];
}

/** Rows of one method are told apart by their learning rate where that does it, and by their name otherwise. */
function labelOf({ name, method }: ExperimentResultRow, { rows, runs }: ExperimentResults): string {
  const alike = rows.filter((row) => row.method === method);
  if (alike.length < 2) return method;
  const rateOf = (row: string) => runs.find((run) => run.row === row)?.learningRate;
  const rates = new Set(alike.map((row) => rateOf(row.name)));
  const rate = rateOf(name);
  return rates.size === alike.length && rate !== undefined
    ? `${method} at ${formatRate(rate)}`
    : `${method} (${name})`;
}

/** On held-out text: e to the mean loss of a token; null where there is no such loss. */
export function perplexityOf({ validationLoss }: Pick<ExperimentRun, 'validationLoss'>): number | null {
  return validationLoss === null ? null : elementary.exp(validationLoss);
}

function estimate(values: readonly (number | null | undefined)[]): Estimate | undefined {
  const known = values.filter((value): value is number => Number.isFinite(value));
  return known.length === 0 ? undefined : { mean: mean(known), spread: spread(known), seeds: known.length };
}

/** A mean of differences over seeds, row − baseline: below zero, the row is the better one. */
export interface Difference extends Estimate {
  /** Undefined for one seed. */
  readonly interval: Interval | undefined;
  /** Seeds with which the row lies below its baseline, and above it. */
  readonly below: number;
  readonly above: number;
}

export interface Comparison {
  readonly row: ExperimentResultRow;
  /** Undefined where the results have no row of that name. */
  readonly baseline: ExperimentResultRow | undefined;
  /** Seeds with which both have a loss on held-out text, and the difference of the losses. */
  readonly pairs: readonly { readonly seed: number; readonly difference: number }[];
  /** The others, each with the reason. */
  readonly unpaired: readonly { readonly seed: number; readonly reason: string }[];
  /** Of the loss on held-out text, nats a token; undefined where no seed is paired. */
  readonly loss: Difference | undefined;
  /** Of the perplexity. */
  readonly perplexity: Difference | undefined;
}

/** Each row that is not its own baseline against that, in the order of the experiment. */
export function compareRows(results: ExperimentResults): Comparison[] {
  const runOf = (row: string, seed: number) =>
    results.runs.find((run) => run.row === row && run.seed === seed);
  return results.rows
    .filter(({ name, baseline }) => name !== baseline)
    .map((row) => {
      const pairs: { seed: number; ours: number; theirs: number }[] = [];
      const unpaired: { seed: number; reason: string }[] = [];
      for (const seed of results.seeds) {
        const [ours, theirs] = [runOf(row.name, seed), runOf(row.baseline, seed)];
        const reasons = [
          ...withoutLoss(ours).map((reason) => `it ${reason}`),
          ...withoutLoss(theirs).map((reason) => `its baseline ${reason}`),
        ];
        if (reasons.length > 0) unpaired.push({ seed, reason: reasons.join(', ') });
        else pairs.push({ seed, ours: ours!.validationLoss!, theirs: theirs!.validationLoss! });
      }
      const of = (measure: string, value: (loss: number) => number) =>
        difference(
          pairs.map(({ ours, theirs }) => value(ours) - value(theirs)),
          [row.name, measure],
        );
      return {
        row,
        baseline: results.rows.find(({ name }) => name === row.baseline),
        pairs: pairs.map(({ seed, ours, theirs }) => ({ seed, difference: ours - theirs })),
        unpaired,
        loss: of('loss', (loss) => loss),
        perplexity: of('perplexity', elementary.exp),
      };
    });
}

/** Why a run has no final loss to compare, if so. */
function withoutLoss(run: ExperimentRun | undefined): string[] {
  if (!run) return ['has no run'];
  const { outcome, step, validationLoss } = run;
  if (outcome === 'pending') return ['has not run yet'];
  if (outcome !== 'finished') return [`${outcome} at step ${step}`];
  return validationLoss === null ? ['has no loss on held-out text'] : [];
}

function difference(values: readonly number[], purpose: readonly string[]): Difference | undefined {
  const all = estimate(values);
  if (!all || all.seeds < values.length) return undefined;
  return {
    ...all,
    interval: meanInterval(values, randomKey(SEED, 'experiment', 'interval', ...purpose)),
    below: values.filter((value) => value < 0).length,
    above: values.filter((value) => value > 0).length,
  };
}
