/**
 * Brings one run of an experiment to its end: as a run like any other, in processes of its own, that is gone on with where it
 * was cut off. What it came to is written once it is known.
 */

import { existsSync, readFileSync, rmSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { makeDirectories, writeFileAtomic } from '@sluice/core';
import { ExperimentRun } from '@sluice/observe';
import type { Diagnostics } from '@sluice/train';
import { freezeRunConfig } from '../run/runConfig.ts';
import { runDirectory } from '../run/runDirectory.ts';
import type { Cell } from './cells.ts';
import { type CellFolder, cellFolder } from './directory.ts';
import { FollowedMetrics } from './followMetrics.ts';
import { hopelessStep } from './hopeless.ts';
import { diagnosisOf, measureRun } from './measureRun.ts';
import { type ProgramEnd, programFailure, runProgram } from './programs.ts';

export interface CellOptions {
  /** Of all experiments. */
  readonly root: string;
  readonly threads: number;
  /** Whether another run begins with its weights. */
  readonly isNeeded: (cell: Cell) => boolean;
  /** Whether the checkpoint is kept after it was measured. */
  readonly keepsCheckpoint: (cell: Cell) => boolean;
  readonly onStep: (cell: Cell, step: number, loss: number | null) => void;
}

/** A run's result, without the name that an experiment gives it. */
export type CellResult = Omit<ExperimentRun, 'row'>;

const CellResult = ExperimentRun.omit({ row: true });

/**
 * A run whose loss ends so much above what it had come down to has diverged, nats a token: more than half of what separates a
 * unigram model from a good one on small corpora, and far above what batches differ by.
 */
const LASTING_RISE = 0.5;

/** Sequences of held-out text that a trained model is measured on. */
const DIAGNOSED_SEQUENCES = 16;

/** How often one looks at a run, ms. */
const LOOK_MS = 500;

/** Pauses, in all, for the end of a run whose experiment was killed, ms. */
const LONGEST_END_MS = 60_000;

/** Errors that are what training came to, in words. */
const DIVERGENCES: Readonly<Record<string, string>> = {
  SLUICE_E_NON_FINITE: 'its values were no finite numbers',
  SLUICE_E_SPIKE: 'a spike did not end',
};

/**
 * What a cell came to before.
 * @returns undefined where that is not known, or where its weights are needed and gone
 */
export function knownResult(
  cell: Cell,
  { root, isNeeded }: Pick<CellOptions, 'root' | 'isNeeded'>,
): CellResult | undefined {
  const folder = cellFolder(root, cell);
  const result = readResult(folder.result);
  const lacksWeights = isNeeded(cell) && !existsSync(runDirectory(folder.run).checkpoints);
  return result?.outcome === 'finished' && lacksWeights ? undefined : result;
}

/** @returns undefined where there is none, or one that was cut off: its run is asked again, which takes no time */
function readResult(path: string): CellResult | undefined {
  if (!existsSync(path)) return undefined;
  try {
    return CellResult.parse(JSON.parse(readFileSync(path, 'utf8')));
  } catch {
    return undefined;
  }
}

/**
 * @param stop asks for an orderly end
 * @throws SLUICE_E_INTERRUPTED once it has ended so; what failed otherwise is a result
 */
export async function runCell(cell: Cell, options: CellOptions, stop: AbortSignal): Promise<CellResult> {
  const folder = cellFolder(options.root, cell);
  await prepareFolder(cell, folder, options.root);
  const trained = await train(cell, folder, options, stop);
  stop.throwIfAborted();
  const result = await resultOf(cell, folder, trained, stop);
  // A run that failed is tried again the next time.
  if (result.outcome !== 'failed') {
    await writeFileAtomic(folder.result, `${JSON.stringify(result, undefined, 1)}\n`);
    if (!options.keepsCheckpoint(cell)) {
      rmSync(runDirectory(folder.run).checkpoints, { recursive: true, force: true });
    }
  }
  return result;
}

async function prepareFolder(cell: Cell, folder: CellFolder, root: string): Promise<void> {
  // Its weights are gone: it begins anew, and comes to the same.
  const isGone = existsSync(folder.result) && !existsSync(runDirectory(folder.run).checkpoints);
  if (isGone) rmSync(folder.path, { recursive: true });
  makeDirectories(folder.path);
  const { row, seed, config, from } = cell;
  await freezeRunConfig(folder.config, {
    ...config,
    name: `${row.name}-seed-${seed}`,
    initialize: { ...config.initialize, ...(from && { from: cellFolder(root, from).run }) },
  });
}

/** How training ended. */
interface Trained {
  readonly end: ProgramEnd;
  /** The step after which it was given up. */
  readonly hopelessAt: number | undefined;
}

async function train(
  cell: Cell,
  folder: CellFolder,
  options: CellOptions,
  stop: AbortSignal,
): Promise<Trained> {
  const giveUp = new AbortController();
  const rule = cell.hopeless;
  const metrics = new FollowedMetrics(runDirectory(folder.run).metrics);
  let isRunning = true;
  const running = launch(folder, options.threads, AbortSignal.any([stop, giveUp.signal])).finally(
    () => (isRunning = false),
  );
  const hopelessNow = () => rule && hopelessStep(lossesOf(metrics), rule);
  while (isRunning) {
    await Promise.race([running, delay(LOOK_MS)]);
    metrics.read();
    const { last } = metrics;
    if (last) options.onStep(cell, last.step, last.loss);
    if (hopelessNow() !== undefined) giveUp.abort();
  }
  return { end: await running, hopelessAt: hopelessNow() };
}

/** Waits for a run of an experiment that was killed, which is about to save and to end. */
async function launch(folder: CellFolder, threads: number, stop: AbortSignal): Promise<ProgramEnd> {
  const words = ['launch', folder.config, '--run-dir', folder.run, '--threads', String(threads)];
  for (let waited = 0; ; waited += LOOK_MS) {
    const end = await runProgram(words, stop);
    if (end.error?.code !== 'SLUICE_E_RUN_IN_USE' || waited > LONGEST_END_MS || stop.aborted) return end;
    await delay(LOOK_MS);
  }
}

function lossesOf({ steps }: FollowedMetrics): (number | null)[] {
  return steps.map(({ loss }) => loss);
}

async function resultOf(
  cell: Cell,
  folder: CellFolder,
  { end, hopelessAt }: Trained,
  stop: AbortSignal,
): Promise<CellResult> {
  const { config } = cell;
  const run = runDirectory(folder.run);
  const { rise, ...curves } = await measureRun(run, hopelessAt);
  const common = {
    seed: cell.seed,
    learningRate: config.optimizer.learningRate,
    steps: config.training.steps,
    ...curves,
    configHash: cell.key,
  };
  const ended = (
    outcome: CellResult['outcome'],
    reason: string,
    errorCode: string | null = null,
  ): CellResult => ({
    ...common,
    outcome,
    reason,
    errorCode,
    validationLoss: null,
    weightsHash: null,
    diagnosis: null,
  });
  if (hopelessAt !== undefined) {
    const { lossBound, lastingSteps } = cell.hopeless!;
    return ended(
      'diverged',
      `given up after step ${hopelessAt}: its mean loss of ${lastingSteps} steps was above ${lossBound.toFixed(3)}`,
    );
  }
  const divergence = end.error && DIVERGENCES[end.error.code];
  if (divergence)
    return ended('diverged', `stopped after step ${curves.step}: ${divergence}`, end.error!.code);
  if (end.json?.finished !== true) {
    const reason = end.json
      ? `it was stopped after step ${curves.step}`
      : firstLine(programFailure('training', end).message);
    return ended('failed', reason, end.error?.code ?? null);
  }
  const validationLoss = numberOrNull(end.json.validationLoss);
  const hasRisen = rise !== null && rise > LASTING_RISE;
  return {
    ...common,
    outcome: hasRisen ? 'diverged' : 'finished',
    reason: hasRisen ? `its loss ended ${rise.toFixed(2)} nats above what it had come down to` : null,
    errorCode: null,
    validationLoss,
    weightsHash: String(end.json.weightsHash),
    diagnosis: cell.hopeless ? null : await diagnosed(folder, stop),
  };
}

async function diagnosed({ run }: CellFolder, stop: AbortSignal): Promise<CellResult['diagnosis']> {
  const end = await runProgram(['diagnose', run, '--sequences', String(DIAGNOSED_SEQUENCES)], stop);
  stop.throwIfAborted();
  if (!end.json) throw programFailure(`measuring ${run}`, end);
  return diagnosisOf(end.json as unknown as Diagnostics);
}

function firstLine(text: string): string {
  return text.split('\n')[0]!;
}

function numberOrNull(value: unknown): number | null {
  return typeof value === 'number' && Number.isFinite(value) ? value : null;
}
