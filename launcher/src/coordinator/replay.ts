/**
 * Takes a step of a run again, from the checkpoint before it: by the workers that have its lanes, and once more by others. A
 * step is a function of its inputs to the last bit, so all must come to the same numbers, and to those that were recorded.
 * Nothing of the run is changed.
 */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { diffConfigs, SluiceError } from '@sluice/core';
import { counted, lastMetrics, readMetrics, type StepRecord } from '@sluice/observe';
import { type RunConfig, SpikeDetector, type SpikeDetectorState, type StepResult } from '@sluice/train';
import type { CommandResult } from '../cli/command.ts';
import { localFleet } from '../fleet/fleet.ts';
import { placeWorkers } from '../fleet/placement.ts';
import { checkpointHistory } from '../run/checkpointHistory.ts';
import { configThen } from '../run/configThen.ts';
import { finiteOrName } from '../run/finiteOrName.ts';
import { type JournalEntry, readJournal, startOf } from '../run/journal.ts';
import { percentLogger } from '../run/percentLogger.ts';
import { rollbacksOf } from '../run/rollbacks.ts';
import { loadRunConfig } from '../run/runConfig.ts';
import { existingRun, type RunDirectory } from '../run/runDirectory.ts';
import { fittingExpertParallel, refuseAbsentBackend, validateConfig } from '../run/validate.ts';
import { interruptible } from '../signals/interruptible.ts';
import { AGREED_IN_STEP } from './agreedStep.ts';
import { findCorpora } from './corpora.ts';
import { computesOnDevices } from './devices.ts';
import { type StartingPoint, startingPoint } from './startingPoint.ts';
import { initialState } from './state.ts';
import { startTeam } from './team.ts';
import { stepRequest } from './trainRun.ts';
import { agreed, type Workers } from './workers.ts';

export interface ReplayOptions {
  readonly run: string;
  readonly step: number;
  readonly workers?: number | undefined;
  readonly threads?: number | undefined;
}

type Log = (line: string) => void;

/** Numbers of a step. */
type Numbers = Pick<StepResult, 'loss' | 'gradientNorm'>;

/**
 * @throws SLUICE_E_USAGE for a step that the run has not taken, SLUICE_E_RUN_MISSING, and the coded errors of data, checkpoints
 *   and workers
 */
export async function replayStep(options: ReplayOptions, log: Log): Promise<CommandResult> {
  const run = existingRun(options.run);
  const journal = readJournal(run.journal);
  const now = loadRunConfig(run.config, {});
  const config = configFor(now, journal, options);
  const { from } = await startingPoint(run, checkpointHistory(journal), options.step - 1);
  const begin = from?.state.step ?? 0;
  refuseChangeBetween(now, journal, begin + 1, options.step);
  const recorded = await recordsBetween(run, begin, options.step);
  log(
    `from ${from ? `the checkpoint of step ${begin}` : 'the beginning'}, on ${counted(config.parallel.workers, 'worker')}`,
  );
  const taken = await interruptible((signal) => retake({ config, journal, from, options, signal }, log));

  const { recheck, ...numbers } = taken.at(-1)!;
  const differing = taken.find(({ step, loss, gradientNorm }) => {
    const record = recorded.get(step);
    return record && !isSame(record, { loss, gradientNorm });
  });
  const { suspects, identical: isReproduced } = recheck!;
  const record = recorded.get(options.step);
  const identical = isReproduced && differing === undefined;
  return {
    text: verdictText(options.step, { isReproduced, suspects, record, differing, numbers }),
    json: {
      ...{ runDir: run.path, step: options.step, from: begin, workers: config.parallel.workers, identical },
      suspect: suspects[0] ?? null,
      suspects,
      replayed: inJson(numbers),
      recorded: record ? inJson(record) : null,
      firstDifference: differing?.step ?? null,
    },
    exitCode: identical ? 0 : 1,
  };
}

/** @param now the configuration that the run has now */
function configFor(
  now: RunConfig,
  journal: readonly JournalEntry[],
  { step, workers, threads }: ReplayOptions,
): RunConfig {
  if (step > now.training.steps) {
    throw new SluiceError(
      'SLUICE_E_USAGE',
      `--step is ${step}, but the run has ${now.training.steps} steps.`,
      { details: { step, steps: now.training.steps } },
    );
  }
  const config = configThen(now, journal, step);
  const { parallel } = config;
  if (parallel.synchronize) {
    throw new SluiceError(
      'SLUICE_E_SYNCHRONIZE_INVALID',
      'The replicas of this run train apart (parallel.synchronize): a step of theirs is not computed again by other workers.',
      { details: { ...parallel.synchronize } },
    );
  }
  // One worker alone could only repeat itself.
  const world = workers ?? Math.max(parallel.workers, Math.min(2, parallel.lanes));
  const replayed = {
    ...config,
    parallel: {
      ...parallel,
      ...{ workers: world, expertParallel: fittingExpertParallel(parallel.expertParallel, world) },
      threads: threads ?? parallel.threads,
    },
  };
  validateConfig(replayed);
  refuseAbsentBackend(replayed);
  return replayed;
}

/** The steps from a checkpoint on are taken with one configuration. */
function refuseChangeBetween(
  now: RunConfig,
  journal: readonly JournalEntry[],
  first: number,
  step: number,
): void {
  const changes = diffConfigs(configThen(now, journal, first), configThen(now, journal, step));
  if (changes.length === 0) return;
  const keys = changes.map(({ key }) => key).join(', ');
  throw new SluiceError(
    'SLUICE_E_USAGE',
    `--step is ${step}, but ${keys} was changed between step ${first}, from which it would have to be computed again, and that step. Name an earlier step, or one after the next checkpoint.`,
    { details: { step, first, changes } },
  );
}

interface Retaking {
  readonly config: RunConfig;
  readonly journal: readonly JournalEntry[];
  readonly from: StartingPoint | undefined;
  readonly options: ReplayOptions;
  readonly signal: AbortSignal;
}

async function retake({ config, journal, from, options, signal }: Retaking, log: Log) {
  const saved = from?.datasetHash ?? startOf(journal)?.datasetHash;
  const { directories, datasetHash } = await findCorpora({ data: config.data, datasetHash: saved }, log);
  const logs = mkdtempSync(join(tmpdir(), 'sluice-replay-'));
  let workers: Workers | undefined;
  try {
    workers = await startTeam({
      placements: placeWorkers(localFleet().hosts(), config.parallel.workers),
      threads: config.parallel.threads,
      onDevices: computesOnDevices(config),
      ...{ log, logs },
    });
    await workers.call('initialize', {
      config,
      dataDirectories: directories.map((directory) => resolve(directory)),
      datasetHash,
      ...(from && { checkpoint: from.checkpoint.path }),
    });
    const taken = await takeSteps(workers, { config, journal, from, step: options.step, signal }, log);
    await workers.stop();
    return taken;
  } finally {
    await workers?.kill();
    rmSync(logs, { recursive: true, force: true });
  }
}

/** The steps from a checkpoint on, as the run took them; the last one is computed by others as well. */
async function takeSteps(
  workers: Workers,
  { config, journal, from, step: last, signal }: Omit<Retaking, 'options'> & { readonly step: number },
  log: Log,
): Promise<StepResult[]> {
  const spikes = new SpikeDetector(config.spikes);
  if (from) spikes.restore(from.state.spikes as SpikeDetectorState);
  const state = { ...(from?.state ?? initialState(spikes.state())), rollbacks: rollbacksOf(journal) };
  const tell = percentLogger('taking steps again', log);
  const taken: StepResult[] = [];
  for (let step = state.step + 1; step <= last; step++) {
    signal.throwIfAborted();
    const request = stepRequest({ config, spikes, state }, step);
    const recheck = step === last ? 'always' : 'never';
    const result = agreed(
      `step ${step}`,
      await workers.call('step', { ...request, recheck }),
      AGREED_IN_STEP,
    );
    spikes.observe(result);
    taken.push(result);
    tell(step - state.step, last - state.step);
  }
  return taken;
}

/** What was recorded of the steps after `begin`, up to the last one, which must be there. */
async function recordsBetween(
  run: RunDirectory,
  begin: number,
  last: number,
): Promise<Map<number, StepRecord>> {
  const records = new Map<number, StepRecord>();
  for await (const record of readMetrics(run.metrics, { after: begin })) {
    if (record.step > last) break;
    records.set(record.step, record);
  }
  if (records.has(last)) return records;
  const newest = lastMetrics(run.metrics)?.step ?? 0;
  throw new SluiceError(
    'SLUICE_E_USAGE',
    `--step is ${last}, but the run’s last recorded step is ${newest}.`,
    {
      details: { step: last, newest },
    },
  );
}

/** The log has null where a number is not finite. */
function isSame(record: Numbers, now: Numbers): boolean {
  const same = (a: number, b: number) => a === b || (!Number.isFinite(a) && !Number.isFinite(b));
  return same(record.loss, now.loss) && same(record.gradientNorm, now.gradientNorm);
}

function inJson({ loss, gradientNorm }: Numbers) {
  return { loss: finiteOrName(loss), gradientNorm: finiteOrName(gradientNorm) };
}

interface Findings {
  readonly isReproduced: boolean;
  readonly suspects: readonly number[];
  readonly record: StepRecord | undefined;
  readonly differing: StepResult | undefined;
  readonly numbers: Numbers;
}

function verdictText(step: number, { isReproduced, suspects, record, differing, numbers }: Findings): string {
  const { loss, gradientNorm } = numbers;
  const said = `step ${step}: loss ${loss}, gradient norm ${gradientNorm}`;
  if (!isReproduced) {
    const who = suspects.length > 0 ? `worker ${suspects.join(', ')}` : 'a worker';
    return `${said}\nnot the same bits on other workers: ${who} of this machine computes wrongly`;
  }
  if (differing) {
    const was = record
      ? `; recorded of step ${step}: loss ${record.loss}, gradient norm ${record.gradientNorm}`
      : '';
    return `${said}\nthe same bits on other workers, but not those that were recorded (first difference: step ${differing.step}${was}): the machine that took it computed something else, or computes with another arithmetic`;
  }
  return `${said}\nthe same bits on other workers, and those that were recorded: data or dynamics, and no machine, made this step what it is`;
}
