/** One invocation of `train` or `resume`, from starting the workers to the summary at the end. */

import { basename } from 'node:path';
import type { TokenizerRecord } from '@sluice/checkpoint/huggingface';
import { SluiceError } from '@sluice/core';
import type { PrepareSummary } from '@sluice/data';
import { modelTensors } from '@sluice/model';
import { appendDiagnostics } from '@sluice/observe';
import { type RunConfig, SpikeDetector, type SpikeDetectorState } from '@sluice/train';
import { workingOn } from '../cli/failure.ts';
import type { Journal } from '../run/journal.ts';
import { recoveryFromNonFinite } from '../run/recovery.ts';
import { type RunDirectory, shellQuote } from '../run/runDirectory.ts';
import { watchNpmParent } from '../signals/parentWatch.ts';
import { ABORTED_EXIT_CODE, installStopSignal, type StopSignal } from '../signals/stopSignal.ts';
import { type CommittedCheckpoint, saveCheckpoint } from './checkpoints.ts';
import { deviceEnvironments } from './devices.ts';
import { diagnosticsAfterStep } from './diagnostics.ts';
import { startLocalWorkers } from './localWorkers.ts';
import { OptionalFile } from './optionalFile.ts';
import { openRecorder, type Recorder } from './recorder.ts';
import { holdsOut } from './splits.ts';
import { type CoordinatorState, initialState } from './state.ts';
import { type StopReason, trainRun } from './trainRun.ts';
import type { Workers } from './workers.ts';

export interface Session {
  readonly run: RunDirectory;
  readonly config: RunConfig;
  readonly dataset: PrepareSummary;
  readonly tokenizer: TokenizerRecord;
  readonly journal: Journal;
  /** Where to go on from; absent for a new run. */
  readonly from?: { readonly checkpoint: CommittedCheckpoint; readonly state: CoordinatorState } | undefined;
  /** Of this invocation. */
  readonly lastStep: number;
}

export interface SessionOutcome {
  readonly reason: StopReason;
  readonly state: CoordinatorState;
  readonly checkpoint: CommittedCheckpoint;
  readonly tokensPerSecond: number | null;
  readonly parameters: { readonly total: number; readonly active: number };
}

/** What a session has at hand while it goes on. */
interface Underway {
  readonly state: CoordinatorState;
  readonly spikes: SpikeDetector;
  readonly recorder: Recorder;
  readonly stop: StopSignal;
  /** The newest checkpoint; none before the first. */
  latest: CommittedCheckpoint | undefined;
}

/** Starts the workers, trains, and ends the workers whatever happens. */
export async function runSession(session: Session): Promise<SessionOutcome> {
  const { run, config, from } = session;
  workingOn(run.path);
  const spikes = new SpikeDetector(config.spikes);
  if (from) spikes.restore(from.state.spikes as SpikeDetectorState);
  const state = from ? structuredClone(from.state) : initialState(spikes.state());
  const recorder = openRecorder(run.metrics, config.training.steps);
  const stop = installStopSignal({
    onRequest: () => recorder.message('stopping after this step, then saving; press Ctrl-C again to abort'),
    onAbort: () => abort(recorder),
  });
  const unwatch = watchNpmParent(() => stop.request());
  const underway: Underway = { state, spikes, recorder, stop, latest: from?.checkpoint };
  let workers: Workers | undefined;
  try {
    workers = await startLocalWorkers({
      count: config.parallel.workers,
      threads: config.parallel.threads,
      environments: deviceEnvironments(config),
      log: (line) => recorder.message(line),
      recovery: () => describeRecovery(run, underway.latest),
    });
    const outcome = await train(session, workers, underway);
    await workers.stop();
    return outcome;
  } catch (error) {
    await workers?.kill();
    journalFailure(session.journal, state.step, error);
    throw error;
  } finally {
    unwatch();
    stop.uninstall();
    recorder.close();
  }
}

async function train(session: Session, workers: Workers, underway: Underway): Promise<SessionOutcome> {
  const { run, config, dataset, tokenizer, journal, from, lastStep } = session;
  const { state, spikes, recorder, stop } = underway;
  const [started] = await workers.call('initialize', {
    config,
    dataDirectory: dataset.directory,
    ...(from && { checkpoint: from.checkpoint.path }),
  });
  const tensors = modelTensors(config.model).map(({ name, shape }) => ({ name, shape }));
  const warn = (text: string) => recorder.message(text, 'warning');
  const writer = {
    ...{ run, config, dataset, tokenizer, tensors, workers, journal, warn },
    remains: new Set<string>(),
  };
  const diagnostics = new OptionalFile(basename(run.diagnostics), warn);
  const training = trainRun({
    config,
    workers,
    journal,
    observer: recorder,
    stop,
    state,
    spikes,
    afterStep: [
      diagnosticsAfterStep(config, (record) =>
        diagnostics.write(record.step, () => appendDiagnostics(run.diagnostics, record)),
      ),
    ],
    savedStep: from?.checkpoint.step ?? -1,
    lastStep,
    validates: holdsOut(dataset),
    checkpoint: async (now) => {
      const saved = await saveCheckpoint(writer, now);
      if ('path' in saved) underway.latest = saved;
      return saved;
    },
    recovery: () => recoveryFromNonFinite(run, config),
  });
  const reason = await training.finally(() => diagnostics.close());
  return {
    reason,
    state,
    checkpoint: underway.latest!,
    tokensPerSecond: recorder.tokensPerSecond(),
    parameters: started!.parameters,
  };
}

function describeRecovery(run: RunDirectory, latest: CommittedCheckpoint | undefined): string {
  const from = latest ? `The last checkpoint is step ${latest.step}` : 'There is no checkpoint yet';
  return `${from}; go on with: sluice resume ${shellQuote(run.path)}`;
}

function journalFailure(journal: Journal, step: number, error: unknown): void {
  // The loop has journaled this stop already.
  if (error instanceof SluiceError && error.code === 'SLUICE_E_NON_FINITE') return;
  try {
    journal.append('stop', step, { reason: 'failed', message: String((error as Error)?.message ?? error) });
  } catch {
    // The first error is the one to tell: a full disk, for one, makes both fail.
  }
}

/** Ends this process, and with it the workers. */
function abort(recorder: Recorder): void {
  recorder.message('aborted', 'error');
  recorder.close();
  process.exit(ABORTED_EXIT_CODE);
}
