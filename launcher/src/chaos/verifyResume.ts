/**
 * Proves, for a configuration, that nothing that happens to its processes changes a bit: trains it quietly, then again while
 * workers, hosts and the coordinator are killed, frozen, cut off and resized at random instants, and compares the weights.
 */

import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { SluiceError } from '@sluice/core';
import { counted, readMetrics } from '@sluice/observe';
import type { CommandResult } from '../cli/command.ts';
import { readJournal } from '../run/journal.ts';
import { type ConfigFlags, loadNewRunConfig } from '../run/runConfig.ts';
import { runDirectory } from '../run/runDirectory.ts';
import { interruptible } from '../signals/interruptible.ts';
import { AbusedRun, type Ended } from './abusedRun.ts';
import { carryOut } from './carryOut.ts';
import { BORNE, type Kind, MischiefPlan } from './mischief.ts';

export interface VerifyResumeOptions extends ConfigFlags {
  readonly config: string;
  readonly kills: number;
  readonly seed: number;
  /** Agents on this machine that stand for hosts. */
  readonly agents: number;
  /** Where the runs are kept; in the directory of temporary files, and removed in the end, when left out. */
  readonly runDir?: string | undefined;
}

type Log = (line: string) => void;

interface Done {
  readonly round: number;
  readonly kind: Kind;
  readonly target: string;
  /** Step that had been recorded last. */
  readonly step: number;
  /** From the fault to the next recorded step, seconds; null where the run had ended. */
  readonly secondsToNextStep: number | null;
}

interface Result {
  readonly weightsHash: string;
  readonly step: number;
}

const LOOK_MS = 20;

/** A start of workers on a small machine, ms. */
const START_MS = 2500;

/**
 * @throws SLUICE_E_VERIFY_FAILED with seed and instant when a run came to other weights, or did not come to its end
 */
export async function verifyResume(options: VerifyResumeOptions, log: Log): Promise<CommandResult> {
  const folder = options.runDir ?? mkdtempSync(join(tmpdir(), 'sluice-verify-'));
  mkdirSync(folder, { recursive: true });
  try {
    const result = await interruptible((signal) => verifyIn(folder, options, signal, log));
    if (options.runDir === undefined) rmSync(folder, { recursive: true, force: true });
    return result;
  } catch (error) {
    // Of a configuration that cannot be read nothing was tried.
    if (readdirSync(folder).length > 0) log(`what was tried is kept in ${folder}`);
    else if (options.runDir === undefined) rmSync(folder, { recursive: true });
    throw error;
  }
}

async function verifyIn(
  folder: string,
  options: VerifyResumeOptions,
  signal: AbortSignal,
  log: Log,
): Promise<CommandResult> {
  const config = await loadNewRunConfig(options.config, options, log);
  log(`a quiet run of ${counted(config.training.steps, 'step')} first`);
  const begun = performance.now();
  const quiet = await runQuietly(join(folder, 'quiet'), options, signal);
  const stepMs = (performance.now() - begun) / config.training.steps;
  log(`quiet run: ${quiet.weightsHash}`);

  const every = Math.min(config.checkpoint.everySteps || config.training.steps, config.training.steps);
  const plan = new MischiefPlan(
    options.seed,
    kindsFor(options, config.parallel.workers),
    START_MS + every * stepMs,
  );
  const done: Done[] = [];
  for (let round = 1; done.length < options.kills; round++) {
    const runDir = join(folder, `round-${round}`);
    const result = await abuse(runDir, round, options, plan, done, signal, log);
    if (result.weightsHash !== quiet.weightsHash) {
      const step = await firstDifference(join(folder, 'quiet'), runDir);
      throw failed(
        options,
        done,
        `round ${round} came to ${result.weightsHash}, the quiet run to ${quiet.weightsHash}; the first step that differs is ${step ?? 'none of those recorded'}`,
      );
    }
    const faults = done.filter((one) => one.round === round).length;
    log(`round ${round}: the same weights after ${counted(faults, 'fault')}`);
  }
  return report(options, quiet, done);
}

function kindsFor({ agents }: VerifyResumeOptions, workers: number): Kind[] {
  return [
    'killWorker',
    'killCoordinator',
    'freezeWorker',
    ...(agents > 0 ? (['killAgent', 'killHost', 'freezeHost', 'cutHost'] as const) : []),
    ...(workers > 1 ? (['resize'] as const) : []),
    ...(workers > 1 && agents > 1 ? (['cutLink', 'stallLink'] as const) : []),
  ];
}

async function runQuietly(
  runDir: string,
  options: VerifyResumeOptions,
  signal: AbortSignal,
): Promise<Result> {
  const run = await AbusedRun.start({ ...options, runDir, flags: () => flagsOf(options), agents: 0, signal });
  const ended = await run.coordinatorEnded;
  signal.throwIfAborted();
  return resultOf(ended) ?? fail(options, [], 'the quiet run did not come to its end', ended);
}

/** One run to its end, while it is abused. */
async function abuse(
  runDir: string,
  round: number,
  options: VerifyResumeOptions,
  plan: MischiefPlan,
  done: Done[],
  signal: AbortSignal,
  log: Log,
): Promise<Result> {
  const flags = (workers = options.workers) => [
    ...flagsOf({ ...options, workers, expertParallel: fitting(options.expertParallel, workers) }),
    ...['--set', 'faults.maxRestarts=1000', '--set', 'faults.replacementSeconds=2'],
  ];
  const run = await AbusedRun.start({ ...options, runDir, flags, signal });
  let ended: Ended | undefined;
  const watch = () => void run.coordinatorEnded.then((end) => (ended = end));
  watch();
  try {
    while (done.length < options.kills) {
      const { kind, afterMs, which } = plan.next();
      for (let waited = 0; waited < afterMs && !ended; waited += LOOK_MS) await delay(LOOK_MS);
      signal.throwIfAborted();
      if (ended) break;
      const step = lastStep(runDir);
      const beginnings = timesBegun(runDir);
      const target = await carryOut(run, kind, which);
      if (target === undefined) continue;
      if (kind === 'killCoordinator' || kind === 'resize') {
        const end = await run.coordinatorEnded;
        if (resultOf(end) && end.code === 0) break;
        ended = undefined;
        run.startCoordinator(kind === 'resize' ? Number(target) : undefined);
        watch();
      }
      const secondsToNextStep = await untilNextStep(
        run,
        beginnings,
        !BORNE.has(kind),
        () => ended !== undefined,
      );
      done.push({ round, kind, target, step, secondsToNextStep });
      log(
        `${done.length}/${options.kills} ${kind} ${target} after step ${step}: ${secondsToNextStep === null ? 'the run ended' : `next step after ${secondsToNextStep.toFixed(1)} s`}`,
      );
    }
    const end = await run.coordinatorEnded;
    signal.throwIfAborted();
    const result = resultOf(end) ?? fail(options, done, `round ${round} did not come to its end`, end);
    await run.end();
    return result;
  } finally {
    run.kill();
  }
}

/** From now to the first step that is recorded, once the run has begun anew where the fault makes it do so. */
async function untilNextStep(
  run: AbusedRun,
  beginnings: number,
  isFault: boolean,
  hasEnded: () => boolean,
): Promise<number | null> {
  const begun = performance.now();
  while (isFault && timesBegun(run.runDir) === beginnings && !hasEnded()) await delay(LOOK_MS);
  for (let bytes = run.metricsBytes(); !hasEnded(); ) {
    await delay(LOOK_MS);
    const now = run.metricsBytes();
    if (now > bytes) return (performance.now() - begun) / 1000;
    // Going back takes lines out.
    bytes = now;
  }
  return null;
}

/** How often a run was begun, and begun anew. */
function timesBegun(runDir: string): number {
  const kinds = readJournal(runDirectory(runDir).journal).map(({ kind }) => kind);
  return kinds.filter(
    (kind) => kind === 'start' || kind === 'resume' || kind === 'restart' || kind === 'regroup',
  ).length;
}

/** What `sluice launch --json` printed in the end, if it did. */
function resultOf({ code, lines }: Ended): Result | undefined {
  if (code !== 0) return undefined;
  const line = lines.findLast((text) => text.startsWith('{'));
  return line === undefined ? undefined : (JSON.parse(line) as Result);
}

function lastStep(runDir: string): number {
  const entries = readJournal(runDirectory(runDir).journal);
  return entries.at(-1)?.step ?? 0;
}

/** The first step whose loss is recorded as another number. */
async function firstDifference(quiet: string, other: string): Promise<number | undefined> {
  const losses = new Map<number, number | null>();
  for await (const { step, loss } of readMetrics(runDirectory(quiet).metrics)) losses.set(step, loss);
  for await (const { step, loss } of readMetrics(runDirectory(other).metrics)) {
    if (losses.has(step) && !Object.is(losses.get(step), loss)) return step;
  }
  return undefined;
}

function flagsOf({ set = [], workers, expertParallel, threads }: VerifyResumeOptions): string[] {
  const flags: [string, string | number | undefined][] = [
    ...set.map((value): [string, string] => ['--set', value]),
    ['--workers', workers],
    ['--expert-parallel', expertParallel],
    ['--threads', threads],
  ];
  return flags.flatMap(([flag, value]) => (value === undefined ? [] : [flag, String(value)]));
}

/** Experts are shared by no more workers than there are. */
function fitting(expertParallel: number | undefined, workers: number | undefined): number | undefined {
  return expertParallel === undefined || workers === undefined
    ? expertParallel
    : Math.min(expertParallel, workers);
}

function fail(options: VerifyResumeOptions, done: readonly Done[], what: string, { lines }: Ended): never {
  throw failed(options, done, `${what}. It said last:\n${lines.slice(-8).join('\n')}`);
}

function failed({ seed, kills }: VerifyResumeOptions, done: readonly Done[], what: string): SluiceError {
  const last = done.at(-1);
  const after = last
    ? `, after fault ${done.length} (${last.kind} ${last.target} after step ${last.step})`
    : '';
  return new SluiceError('SLUICE_E_VERIFY_FAILED', `With --kills ${kills} --seed ${seed}${after}: ${what}`, {
    details: { seed, done },
  });
}

function report({ seed, agents }: VerifyResumeOptions, quiet: Result, done: readonly Done[]): CommandResult {
  const kinds = [...new Set(done.map(({ kind }) => kind))];
  const byKind = kinds.map((kind) => {
    const seconds = done.flatMap((one) =>
      one.kind === kind && one.secondsToNextStep !== null ? [one.secondsToNextStep] : [],
    );
    return {
      kind,
      count: done.filter((one) => one.kind === kind).length,
      medianSeconds: median(seconds),
      maxSeconds: seconds.length ? Math.max(...seconds) : null,
    };
  });
  const rounds = done.at(-1)?.round ?? 0;
  return {
    text: [
      `identical: ${counted(done.length, 'fault')} in ${counted(rounds, 'run')}, all with the weights of the quiet one`,
      ...byKind.map(
        ({ kind, count, medianSeconds, maxSeconds }) =>
          `  ${kind.padEnd(16)} ${String(count).padStart(3)}  next step after ${shown(medianSeconds)} (median), ${shown(maxSeconds)} (longest)`,
      ),
      `  weights          ${quiet.weightsHash}`,
    ].join('\n'),
    json: {
      identical: true,
      kills: done.length,
      rounds,
      seed,
      agents,
      weightsHash: quiet.weightsHash,
      byKind,
      faults: done,
    },
  };
}

function shown(seconds: number | null): string {
  return seconds === null ? '–' : `${seconds.toFixed(1)} s`;
}

function median(values: readonly number[]): number | null {
  return values.length === 0 ? null : [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!;
}
