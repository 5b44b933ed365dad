/** Carries an experiment out, and puts what its runs came to into one table. */

import { BACKENDS, nativeArithmetic, precisionOn } from '@sluice/engine';
import { countParameters } from '@sluice/model';
import {
  arithmeticOf,
  type ExperimentResultRow,
  ExperimentResults,
  type ExperimentRun,
  RESULTS_FORMAT,
} from '@sluice/observe';
import type { RunConfig } from '@sluice/train';
import { PACKAGE_VERSION } from '../packageVersion.ts';
import { baselineOf, type ExperimentRow } from './config.ts';
import { experimentName } from './directory.ts';
import type { Laboratory } from './laboratory.ts';
import type { CellResult } from './runCell.ts';
import { runCells } from './runCells.ts';

/** What an experiment came to, as far as it came. */
export interface CarriedOut {
  readonly results: ExperimentResults;
  /** What one of its runs threw, if any did. */
  readonly failure: unknown;
}

type ComputedRun = Pick<ExperimentRun, 'row' | 'arithmetic'>;

/** Runs what has not been run of an experiment. */
export async function carryOut(laboratory: Laboratory): Promise<CarriedOut> {
  const { cells, runner, expect } = laboratory;
  expect(cells);
  const { results, failure } = await runCells(runner, cells);
  return { results: collectResults(laboratory, results), failure };
}

/** @param results of the laboratory's cells, in their order */
function collectResults(laboratory: Laboratory, results: readonly CellResult[]): ExperimentResults {
  const { cells, rows, seeds, experiment, make } = laboratory;
  const runs = results.map((result, i) => ({ row: cells[i]!.row.name, ...result }));
  // In the order of the schema, whether a run's result is new or was read: the file is to be the same to the byte.
  return ExperimentResults.parse({
    format: RESULTS_FORMAT,
    ...headOf(laboratory, runs),
    notes: experiment.notes ?? null,
    unigramLoss: cells.length === 0 ? null : make.corporaOf(cells[0]!).unigramLoss,
    rows: rows.map((row) => describeRow(laboratory, row)),
    seeds: [...seeds],
    runs,
  });
}

/** What every file of results begins with. */
export function headOf({ path, experiment, scale, rows, make }: Laboratory, runs: readonly ComputedRun[]) {
  const arithmetic = rows.map(
    (row) =>
      arithmeticOf(runs.filter((run) => run.row === row.name)) ?? expectedArithmetic(make.configOf(row)),
  );
  return {
    name: experimentName(path),
    title: experiment.title,
    source: experiment.source ?? null,
    scale,
    version: PACKAGE_VERSION,
    arithmetic: [...new Set(arithmetic)].join(', '),
  };
}

/** What will compute a run, as far as that is known without it. */
function expectedArithmetic({ backend, precision }: RunConfig): string {
  if (backend === 'native') return nativeArithmetic();
  return BACKENDS[backend].precisions.length > 1
    ? `${backend} in ${precisionOn(BACKENDS[backend], precision)}`
    : backend;
}

export function describeRow({ experiment, make }: Laboratory, row: ExperimentRow): ExperimentResultRow {
  const count = (one: ExperimentRow) => countParameters(make.configOf(one).model);
  const baseline = baselineOf(experiment, row);
  const { total, active } = count(row);
  return {
    name: row.name,
    method: row.method,
    baseline: baseline.name,
    parameters: { total, active, added: total - count(baseline).total },
    paper: row.paper,
    notes: row.notes ?? null,
  };
}
