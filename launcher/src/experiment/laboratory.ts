/** What experiments are carried out with: the rows and seeds that are asked for, and what runs them. */

import { availableCores, makeDirectories, SluiceError } from '@sluice/core';
import type { RunConfig } from '@sluice/train';
import { prepareCorpora } from '../coordinator/corpora.ts';
import { acquireRunLock, type RunLock } from '../run/lock.ts';
import { shellQuote } from '../run/runDirectory.ts';
import { refuseAbsentBackend } from '../run/validate.ts';
import { interruptible } from '../signals/interruptible.ts';
import { type Cell, Cells, type Corpora, corporaName, namingRow, resolveRow } from './cells.ts';
import {
  type ExperimentConfig,
  type ExperimentRow,
  type ExperimentScale,
  loadExperiment,
  scalingOf,
} from './config.ts';
import { type ExperimentFolder, experimentFolder } from './directory.ts';
import { ExperimentProgress } from './progress.ts';
import { knownResult } from './runCell.ts';
import { CellRunner } from './runCells.ts';

export interface ExperimentOptions {
  /** The experiment's file. */
  readonly experiment: string;
  readonly scale: ExperimentScale;
  /** How many, in place of the experiment's. */
  readonly seeds?: number | undefined;
  /** Names of rows, in place of all. */
  readonly rows?: readonly string[] | undefined;
  /** Runs at a time; as many as there are cores when left out. */
  readonly jobs?: number | undefined;
  /** Threads of each run; the cores shared out when left out. */
  readonly threads?: number | undefined;
  /** Where runs and results are kept. */
  readonly directory: string;
  /** Whether checkpoints of runs that are done are kept. */
  readonly keepCheckpoints?: boolean | undefined;
  /** Ends the work early, every run saved, as a Ctrl-C does. */
  readonly budget?: AbortSignal | undefined;
}

export interface Laboratory {
  /** The experiment's file. */
  readonly path: string;
  readonly experiment: ExperimentConfig;
  readonly scale: ExperimentScale;
  readonly rows: readonly ExperimentRow[];
  readonly seeds: readonly number[];
  /** Rows × seeds, row by row. */
  readonly cells: readonly Cell[];
  /** Makes others. */
  readonly make: Cells;
  readonly runner: CellRunner;
  readonly folder: ExperimentFolder;
  /** The words after `sluice experiment` that lead to the same results. */
  readonly command: string;
  /** Tells the display of runs that are to come. @throws SLUICE_E_BACKEND_MISSING for one that is left to do, with its row */
  expect(cells: readonly Cell[]): void;
}

/**
 * Does `work` with an experiment, whose directory is nobody else's meanwhile. A first Ctrl-C lets every run save.
 * @throws the coded errors of the experiment's file and of each row's configuration, and of preparing its corpora, before
 *   anything is run; SLUICE_E_RUN_IN_USE; SLUICE_E_INTERRUPTED
 */
export async function withLaboratory<T>(
  options: ExperimentOptions,
  log: (line: string) => void,
  work: (laboratory: Laboratory) => Promise<T>,
): Promise<T> {
  const { experiment: path, scale, directory } = options;
  const experiment = loadExperiment(path);
  scalingOf(path, experiment, scale);
  const rows = chosenRows(path, experiment, options.rows);
  const configs = new Map(
    experiment.rows.map((row) => [row.name, resolveRow({ path, experiment, scale }, row)]),
  );
  const seeds = Array.from({ length: options.seeds ?? experiment.seeds }, (_, i) => i + 1);
  const folder = experimentFolder(directory, path, scale);
  makeDirectories(directory);
  const lock = await lockDirectory(directory, folder.lock, log);
  try {
    const corpora = await prepareAll([...configs.values()], log);
    const make = new Cells({
      rows: experiment.rows,
      configOf: ({ name }) => configs.get(name)!,
      corporaOf: (config) => corpora.get(corporaName(config))!,
      retrieval: experiment.retrieval,
    });
    const cells = rows.flatMap((row) => seeds.map((seed) => make.make(row, seed)));
    const { jobs, threads } = sharedOut(options);
    sayHours(options, experiment, log);
    const progress = new ExperimentProgress(log, jobs);
    const begins = beginnings(experiment, seeds, make);
    const cellOptions = {
      root: directory,
      threads,
      isNeeded: ({ key }: Cell) => begins.has(key),
      keepsCheckpoint: ({ key }: Cell) => options.keepCheckpoints === true || begins.has(key),
    };
    return await interruptible(async (asked) => {
      const stop = options.budget ? AbortSignal.any([asked, options.budget]) : asked;
      const runner = new CellRunner(
        {
          ...cellOptions,
          jobs,
          onStart: (cell) => progress.started(cell),
          onStep: (cell, step, loss) => progress.step(cell, step, loss),
          onEnd: (cell, result) => progress.ended(cell, result),
        },
        stop,
      );
      return await work({
        path,
        experiment,
        scale,
        rows,
        seeds,
        cells,
        make,
        runner,
        folder,
        command: commandOf(options),
        expect: (expected) => {
          const all = distinct(expected);
          const left = all.filter((cell) => !knownResult(cell, cellOptions));
          for (const { row, config } of left) namingRow(path, row, () => refuseAbsentBackend(config));
          progress.expect(left, all.length);
        },
      });
    }).finally(() => progress.close());
  } finally {
    lock.release();
  }
}

/** Keys of the runs that others begin with. */
function beginnings({ rows }: ExperimentConfig, seeds: readonly number[], make: Cells): Set<string> {
  const cells = rows
    .filter(({ from }) => from !== undefined)
    .flatMap((row) => seeds.map((seed) => make.make(row, seed)));
  return new Set(cells.map(({ from }) => from!.key));
}

async function lockDirectory(directory: string, path: string, log: (line: string) => void): Promise<RunLock> {
  try {
    return await acquireRunLock(path, log);
  } catch (error) {
    if (!(error instanceof SluiceError && error.code === 'SLUICE_E_RUN_IN_USE')) throw error;
    throw new SluiceError(
      'SLUICE_E_RUN_IN_USE',
      `Another experiment is being run in ${directory}: wait for its end, or give another --directory.`,
      { cause: error, details: { ...error.details, directory } },
    );
  }
}

function sayHours(
  { scale, rows, seeds }: ExperimentOptions,
  { coreHours }: ExperimentConfig,
  log: (line: string) => void,
): void {
  const hours = scale === 'full' ? undefined : coreHours[scale];
  if (hours === undefined || rows !== undefined || seeds !== undefined) return;
  log(`all runs of this scale took ${hours} hours of one core where they were measured`);
}

function commandOf({ experiment, scale, seeds, rows }: ExperimentOptions): string {
  return [
    shellQuote(experiment),
    ...(scale === 'full' ? [] : [`--scale ${scale}`]),
    ...(seeds === undefined ? [] : [`--seeds ${seeds}`]),
    ...(rows ? [`--rows ${rows.join(',')}`] : []),
  ].join(' ');
}

function chosenRows(path: string, { rows }: ExperimentConfig, names: readonly string[] | undefined) {
  const unknown = names?.find((name) => !rows.some((row) => row.name === name));
  if (unknown !== undefined) {
    const known = rows.map(({ name }) => name);
    throw new SluiceError(
      'SLUICE_E_USAGE',
      `${path} has no row ${JSON.stringify(unknown)}; its rows: ${known.join(', ')}.`,
      {
        details: { row: unknown, rows: known },
      },
    );
  }
  return names ? rows.filter(({ name }) => names.includes(name)) : rows;
}

/** Prepares each corpus once, before runs that need it would do so side by side. */
async function prepareAll(
  configs: readonly RunConfig[],
  log: (line: string) => void,
): Promise<Map<string, Corpora>> {
  const prepared = new Map<string, Corpora>();
  for (const config of configs) {
    const name = corporaName(config);
    if (!prepared.has(name)) prepared.set(name, await prepareCorpora(config.data, log));
  }
  return prepared;
}

function sharedOut({ jobs, threads }: ExperimentOptions): { jobs: number; threads: number } {
  const { count } = availableCores();
  const side = jobs ?? Math.max(1, Math.floor(count / (threads ?? 1)));
  return { jobs: side, threads: threads ?? Math.max(1, Math.floor(count / side)) };
}

/** Each run once, with those that it begins with. */
function distinct(cells: readonly Cell[]): Cell[] {
  const withBeginning = (cell: Cell): Cell[] => [...(cell.from ? withBeginning(cell.from) : []), cell];
  return [...new Map(cells.flatMap(withBeginning).map((cell) => [cell.key, cell])).values()];
}
