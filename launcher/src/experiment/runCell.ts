/**
 * Brings one run of an experiment to its end: as a run like any other, in processes of its own, that is gone on with where it
 * was cut off. What it came to is written once it is known.
 */

import { existsSync, readFileSync, rmSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { readManifest } from '@sluice/checkpoint';
import { makeDirectories, writeFileAtomic } from '@sluice/core';
import { BACKENDS } from '@sluice/engine';
import { ExperimentRun, LinesFollower, parseRecord, type RetrievalScores } from '@sluice/observe';
import type { Diagnostics, Probe } from '@sluice/train';
import { freezeRunConfig } from '../run/runConfig.ts';
import { runDirectory } from '../run/runDirectory.ts';
import type { Cell } from './cells.ts';
import type { RetrievalConfig } from './config.ts';
import { type CellFolder, cellFolder } from './directory.ts';
import { hopelessStep } from './hopeless.ts';
import { diagnosisOf, measureRun, retrievalOf } from './measureRun.ts';
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

/** @returns undefined where there is none, or one that was cut off */
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
  const end = await train(cell, folder, options, stop);
  stop.throwIfAborted();
  const result = await resultOf(cell, folder, end, stop);
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
  // What it came to is not known, and its weights are gone: it begins anew, and comes to the same.
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

/** @returns how training ended; a run that is hopeless is stopped */
async function train(
  cell: Cell,
  folder: CellFolder,
  { threads, onStep }: CellOptions,
  stop: AbortSignal,
): Promise<ProgramEnd> {
  const giveUp = new AbortController();
  const [steps, losses]: [number[], (number | null)[]] = [[], []];
  let judged = 0;
  const metrics = new LinesFollower(runDirectory(folder.run).metrics, {
    parse: parseRecord,
    take: ({ step, loss }) => {
      steps.push(step);
      losses.push(Number.isFinite(loss) ? loss : null);
    },
    cut: (count) => {
      steps.length = losses.length = count;
      judged = Math.min(judged, count);
    },
  });
  const ended = new AbortController();
  const running = launch(folder, threads, AbortSignal.any([stop, giveUp.signal])).finally(() =>
    ended.abort(),
  );
  // It is waited for below.
  running.catch(() => {});
  while (!ended.signal.aborted) {
    await delay(LOOK_MS, undefined, { signal: ended.signal }).catch(() => {});
    await metrics.read();
    if (steps.length > 0) onStep(cell, steps.at(-1)!, losses.at(-1)!);
    if (cell.hopeless && hopelessStep(losses, cell.hopeless, judged) !== undefined) giveUp.abort();
    judged = losses.length;
  }
  return running;
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

async function resultOf(
  cell: Cell,
  folder: CellFolder,
  end: ProgramEnd,
  stop: AbortSignal,
): Promise<CellResult> {
  const { config, hopeless } = cell;
  const { curves, rise, hopelessAt } = await measureRun(runDirectory(folder.run), hopeless);
  const common = {
    seed: cell.seed,
    learningRate: config.optimizer.learningRate,
    steps: config.training.steps,
    ...curves,
    configHash: cell.key,
  };
  const ended = (outcome: CellResult['outcome'], reason: string, errorCode?: string): CellResult => ({
    ...common,
    ...{ outcome, reason, errorCode: errorCode ?? null },
    ...{ validationLoss: null, weightsHash: null, arithmetic: null, diagnosis: null },
  });
  const failed = (what: string, program: ProgramEnd) =>
    ended('failed', firstLine(programFailure(what, program).message), program.error?.code);

  if (hopeless && hopelessAt !== undefined) {
    const { lossBound, lastingSteps } = hopeless;
    return ended(
      'diverged',
      `given up after step ${hopelessAt}: its mean loss of ${lastingSteps} steps was above ${lossBound.toFixed(3)}`,
    );
  }
  const divergence = end.error && DIVERGENCES[end.error.code];
  if (divergence)
    return ended('diverged', `stopped after step ${curves.step}: ${divergence}`, end.error!.code);
  if (!end.json) return failed('training', end);
  if (end.json.finished !== true) return ended('failed', `it was stopped after step ${curves.step}`);

  const measured = hopeless ? undefined : await diagnose(cell, folder, stop);
  if (measured && !measured.json) return failed('measuring', measured);
  const retrieval: Record<string, RetrievalScores> = {};
  for (const question of cell.retrieval) {
    const answered = await ask(cell, folder, question, stop);
    if (!answered.json) return failed(`asking ${question.name}`, answered);
    retrieval[question.name] = retrievalOf(answered.json);
  }
  const hasRisen = rise !== null && rise > LASTING_RISE;
  return {
    ...common,
    outcome: hasRisen ? 'diverged' : 'finished',
    reason: hasRisen ? `its loss ended ${rise.toFixed(2)} nats above what it had come down to` : null,
    errorCode: null,
    validationLoss: numberOrNull(end.json.validationLoss),
    weightsHash: String(end.json.weightsHash),
    arithmetic: await arithmeticOfCheckpoint(String(end.json.checkpoint)),
    diagnosis: measured ? diagnosisOf(measured.json as unknown as Diagnostics) : null,
    ...(cell.retrieval.length > 0 && { retrieval }),
  };
}

/** What computed a checkpoint's weights. */
async function arithmeticOfCheckpoint(path: string): Promise<string> {
  const { probe } = await readManifest(path);
  return (probe as unknown as Probe).arithmetic;
}

/** A trained model is measured by what has trained it, unless that gives no values in the middle of a pass. */
function measuringFlags({ config: { backend, precision } }: Cell): string[] {
  if (!BACKENDS[backend].readsSynchronously) return [];
  return ['--backend', backend, ...(precision === undefined ? [] : ['--precision', precision])];
}

/** Measures a trained model. @throws SLUICE_E_INTERRUPTED */
async function diagnose(cell: Cell, { run }: CellFolder, stop: AbortSignal): Promise<ProgramEnd> {
  const words = ['diagnose', run, '--sequences', String(DIAGNOSED_SEQUENCES), ...measuringFlags(cell)];
  const end = await runProgram(words, stop);
  stop.throwIfAborted();
  return end;
}

/** Asks a trained model. @throws SLUICE_E_INTERRUPTED */
async function ask(
  cell: Cell,
  { run }: CellFolder,
  question: RetrievalConfig,
  stop: AbortSignal,
): Promise<ProgramEnd> {
  const { name: _, set, ...flags } = question;
  const words = Object.entries(flags).flatMap(([flag, value]) => [`--${flag}`, String(value)]);
  const changes = set.length > 0 ? ['--set', ...set] : [];
  const end = await runProgram(['evaluate', run, ...words, ...measuringFlags(cell), ...changes], stop);
  stop.throwIfAborted();
  return end;
}

function firstLine(text: string): string {
  return text.split('\n')[0]!;
}

function numberOrNull(value: unknown): number | null {
  return typeof value === 'number' && Number.isFinite(value) ? value : null;
}
