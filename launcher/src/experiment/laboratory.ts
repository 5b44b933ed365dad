/** What experiments are carried out with: the rows and seeds that are asked for, and what runs them. */

import { availableCores, makeDirectories, SluiceError } from '@sluice/core';
import { recipesOf } from '@sluice/data';
import { prepareCorpora } from '../coordinator/corpora.ts';
import { acquireRunLock } from '../run/lock.ts';
import { shellQuote } from '../run/runDirectory.ts';
import { interruptible } from '../signals/interruptible.ts';
import { type Cell, Cells } from './cells.ts';
import { type ExperimentConfig, type ExperimentRow, type ExperimentScale, loadExperiment } from './config.ts';
import { type ExperimentFolder, experimentFolder } from './directory.ts';
import type { HopelessRule } from './hopeless.ts';
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
  /** Tells the display of runs that are to come. */
  expect(cells: readonly Cell[]): void;
  /** Loss of a unigram model on a cell's held-out split, nats a token; null for a mixture. */
  unigramLoss(cell: Cell): number | null;
}

export interface LaboratoryRules {
  /** Sequences of held-out text that a trained model is measured on. */
  readonly diagnosedSequences?: number;
  readonly hopeless?: (
    laboratory: Pick<Laboratory, 'experiment' | 'unigramLoss'>,
    cell: Cell,
  ) => HopelessRule;
}

const DIAGNOSED_SEQUENCES = 16;

/**
 * Does `work` with an experiment, whose directory is nobody else's meanwhile. A first Ctrl-C lets every run save.
 * @throws the coded errors of the experiment's file and of each row's configuration, and of preparing its corpora, before
 *   anything is run; SLUICE_E_RUN_IN_USE; SLUICE_E_INTERRUPTED
 */
export async function withLaboratory<T>(
  options: ExperimentOptions,
  log: (line: string) => void,
  work: (laboratory: Laboratory) => Promise<T>,
  rules: LaboratoryRules = {},
): Promise<T> {
  const { experiment: path, scale, directory } = options;
  const experiment = loadExperiment(path);
  const rows = chosenRows(path, experiment, options.rows);
  const seeds = Array.from({ length: options.seeds ?? experiment.seeds }, (_, i) => i + 1);
  const make = new Cells({ path, experiment, scale });
  const cells = rows.flatMap((row) => seeds.map((seed) => make.make(row, seed)));
  const folder = experimentFolder(directory, path, scale);
  makeDirectories(directory);
  const lock = await acquireRunLock(folder.lock, log);
  try {
    const unigramLosses = await prepareAll(cells, log);
    const unigramLoss = ({ config }: Cell) => unigramLosses.get(recipesOf(config.data).join('\n')) ?? null;
    const { jobs, threads } = sharedOut(options);
    const hours = scale === 'full' ? undefined : experiment.coreHours[scale];
    if (hours !== undefined)
      log(`all runs of this scale took ${hours} hours of one core where they were measured`);
    const progress = new ExperimentProgress(log, jobs);
    const begins = new Set(experiment.rows.map(({ from }) => from));
    const keepsCheckpoint = ({ row }: Cell) => options.keepCheckpoints === true || begins.has(row.name);
    const { hopeless, diagnosedSequences = DIAGNOSED_SEQUENCES } = rules;
    const cellOptions = {
      root: directory,
      threads,
      diagnosedSequences,
      keepsCheckpoint,
      hopeless: hopeless && ((cell: Cell) => hopeless({ experiment, unigramLoss }, cell)),
    };
    const expect = (expected: readonly Cell[]) => {
      const todo = distinct(expected).filter((cell) => !knownResult(cell, cellOptions));
      const done = distinct(expected).length - todo.length;
      if (done > 1) progress.say(`${done} of ${done + todo.length} runs are done already`);
      progress.expect(todo);
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
        expect,
        unigramLoss,
      });
    }).finally(() => progress.close());
  } finally {
    lock.release();
  }
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
    throw new SluiceError('SLUICE_E_USAGE', `${path} has no row ${unknown}; its rows: ${known.join(', ')}.`, {
      details: { row: unknown, rows: known },
    });
  }
  return names ? rows.filter(({ name }) => names.includes(name)) : rows;
}

/** Prepares each corpus once, before runs that need it would do so side by side. */
async function prepareAll(
  cells: readonly Cell[],
  log: (line: string) => void,
): Promise<Map<string, number | null>> {
  const losses = new Map<string, number | null>();
  for (const { config } of cells) {
    const key = recipesOf(config.data).join('\n');
    if (!losses.has(key)) losses.set(key, (await prepareCorpora(config.data, log)).unigramLoss);
  }
  return losses;
}

function sharedOut({ jobs, threads }: ExperimentOptions): { jobs: number; threads: number } {
  const { count } = availableCores();
  const side = jobs ?? Math.max(1, Math.floor(count / (threads ?? 1)));
  return { jobs: side, threads: threads ?? Math.max(1, Math.floor(count / side)) };
}

function distinct(cells: readonly Cell[]): Cell[] {
  return [
    ...new Map(
      cells.flatMap((cell) => [...(cell.from ? [cell.from] : []), cell]).map((cell) => [cell.key, cell]),
    ).values(),
  ];
}
