/** One invocation of `train` or `resume`: workers started, and started anew after faults, until the run is where it is to stop. */

import { basename, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { TokenizerRecord } from '@sluice/checkpoint/huggingface';
import { SluiceError } from '@sluice/core';
import type { PrepareSummary } from '@sluice/data';
import { modelTensors } from '@sluice/model';
import { appendDiagnostics, supersedeAfter } from '@sluice/observe';
import { type RunConfig, SpikeDetector, type SpikeDetectorState } from '@sluice/train';
import { workingOn } from '../cli/failure.ts';
import type { Fleet } from '../fleet/fleet.ts';
import type { Host } from '../fleet/host.ts';
import { releaseHostMemory, sweepHostMemory } from '../fleet/hostMemory.ts';
import { type Placement, placeWorkers, worldThatFits } from '../fleet/placement.ts';
import { checkpointHistory } from '../run/checkpointHistory.ts';
import { type Journal, readJournal } from '../run/journal.ts';
import type { RunLock } from '../run/lock.ts';
import { refuseLostCheckpoints } from '../run/lostCheckpoints.ts';
import { recoveryFromNonFinite } from '../run/recovery.ts';
import { type RunDirectory, shellQuote } from '../run/runDirectory.ts';
import { pathInRun } from '../run/runPaths.ts';
import { RUN_VARIABLE } from '../run/runToken.ts';
import { watchNpmParent } from '../signals/parentWatch.ts';
import { ABORTED_EXIT_CODE, installStopSignal, type StopSignal } from '../signals/stopSignal.ts';
import { type CommittedCheckpoint, saveCheckpoint } from './checkpoints.ts';
import { computesOnDevices } from './devices.ts';
import { diagnosticsAfterStep } from './diagnostics.ts';
import { fleetAfterStep } from './fleetView.ts';
import {
  copiesAfterStep,
  copyInterval,
  isWholeOn,
  type MemoryCopies,
  memoryRequest,
} from './memoryCopies.ts';
import { OptionalFile } from './optionalFile.ts';
import { openRecorder, type Recorder } from './recorder.ts';
import { isFault, Restarts } from './restarts.ts';
import { RunBoard } from './runBoard.ts';
import { holdsOut } from './splits.ts';
import { type Stall, stallLine } from './stall.ts';
import { startingPoint } from './startingPoint.ts';
import { type CoordinatorState, initialState } from './state.ts';
import { stragglersAfterStep } from './stragglers.ts';
import { startTeam } from './team.ts';
import { type StopReason, trainRun } from './trainRun.ts';
import type { Workers } from './workers.ts';

export interface Session {
  readonly run: RunDirectory;
  readonly config: RunConfig;
  readonly dataset: PrepareSummary;
  readonly tokenizer: TokenizerRecord;
  readonly journal: Journal;
  /** Where to go on from; absent for a new run. */
  readonly from?: Start | undefined;
  /** Of this invocation. */
  readonly lastStep: number;
  readonly fleet: Fleet;
  readonly lock: Pick<RunLock, 'assertOwned'>;
  /** What all its processes carry in their environment. */
  readonly token: string;
}

export interface SessionOutcome {
  readonly reason: StopReason;
  /** Whether a person stopped it, for good: nothing is to start it again by itself. */
  readonly isStopFinal: boolean;
  readonly state: CoordinatorState;
  readonly checkpoint: CommittedCheckpoint;
  readonly tokensPerSecond: number | null;
  readonly parameters: { readonly total: number; readonly active: number };
}

/** What workers go on from. */
interface Start {
  readonly state: CoordinatorState;
  readonly checkpoint?: CommittedCheckpoint | undefined;
  /** In place of a checkpoint. */
  readonly copies?: MemoryCopies;
}

/** What a session has at hand while it goes on, whatever happens to its workers. */
interface Underway {
  readonly recorder: Recorder;
  readonly stop: StopSignal;
  readonly restarts: Restarts;
  readonly board: RunBoard;
  /** The newest checkpoint; none before the first. */
  latest: CommittedCheckpoint | undefined;
  /** The newest copies in the hosts' memory, where there are such. */
  copies: MemoryCopies | undefined;
  /** Of the workers that are there. */
  state: CoordinatorState;
}

/** Trains on workers that are started anew after each fault, as long as that makes sense, and ends them whatever happens. */
export async function runSession(session: Session): Promise<SessionOutcome> {
  const { run, config, from } = session;
  workingOn(run.path);
  const recorder = openRecorder(run.metrics, config.training.steps);
  const stop = installStopSignal({
    onRequest() {
      board.noteStop('a signal');
      recorder.message('stopping after this step, then saving; press Ctrl-C again to abort');
    },
    onAbort: () => abort(recorder),
  });
  const unwatch = watchNpmParent(() => stop.request());
  const board = new RunBoard({
    ...{ run, token: session.token, fleet: session.fleet, steps: config.training.steps },
    step: () => underway.state.step,
    savedStep: () => underway.latest?.step,
  });
  const unhear = session.fleet.onStop((reason) => {
    board.noteStop(reason);
    stop.request();
  });
  const underway: Underway = {
    ...{ recorder, stop, board, restarts: new Restarts(config.faults), latest: from?.checkpoint },
    copies: undefined,
    state: initialState(new SpikeDetector(config.spikes).state()),
  };
  const closeDesk = await board.open(
    () => stop.request(),
    (text) => recorder.message(text, 'warning'),
  );
  const untell = session.fleet.tellBy({ line: (text) => recorder.message(text), status: recorder.status });
  try {
    sweepHostMemory();
    let hosts = await session.fleet.assemble(false, () => stop.requested);
    for (let start = from; ; ) {
      try {
        const outcome = await trainOn(hosts, { ...session, from: start }, underway);
        if (outcome.reason !== 'regroup') return outcome;
        hosts = await session.fleet.assemble(true, () => stop.requested);
        start = regroup(session, outcome, recorder);
      } catch (fault) {
        await judge(fault, underway);
        hosts = await session.fleet.assemble(true, () => stop.requested);
        start = await goBack(session, underway, fault as SluiceError, hosts);
      }
    }
  } catch (error) {
    journalFailure(session.journal, underway.state.step, error);
    throw withRecovery(board.isStopFinal ? stoppedForGood(error) : error, run, underway.latest);
  } finally {
    closeDesk();
    untell();
    unhear();
    unwatch();
    stop.uninstall();
    recorder.close();
    releaseHostMemory();
  }
}

/** Starts workers, trains on them, and ends them whatever happens. */
async function trainOn(
  hosts: readonly Host[],
  session: Session,
  underway: Underway,
): Promise<SessionOutcome> {
  const { config, from, fleet } = session;
  const { recorder, board } = underway;
  const world = worldThatFits(hosts, config.parallel);
  const placements = placeWorkers(hosts, world.workers);
  const spread = { ...config, parallel: { ...config.parallel, ...world } };
  const spikes = new SpikeDetector(config.spikes);
  if (from) spikes.restore(from.state.spikes as SpikeDetectorState);
  underway.state = from ? structuredClone(from.state) : initialState(spikes.state());
  let workers: Workers | undefined;
  try {
    workers = await startTeam({
      placements,
      threads: config.parallel.threads,
      onDevices: computesOnDevices(config),
      log: (line) => recorder.message(line),
      network: fleet.network,
      logs: session.run.logs,
      environment: { [RUN_VARIABLE]: session.token },
      watch: (team) => board.watch(team),
      onStall: (stall) => noteStall(session.journal, underway, stall),
    });
    const outcome = await train({ ...session, config: spread }, placements, workers, spikes, underway);
    await workers.stop();
    return outcome;
  } catch (error) {
    await workers?.kill();
    throw error;
  } finally {
    board.watch(undefined);
  }
}

/** Hosts have come since: the workers, which have saved and ended, are spread over all that are there. */
function regroup(
  { config, journal, fleet }: Session,
  { checkpoint, state }: SessionOutcome,
  recorder: Recorder,
): Start {
  const hosts = fleet.hosts().map(({ name }) => name);
  journal.note('regroup', state.step, { ...worldThatFits(fleet.hosts(), config.parallel), hosts });
  recorder.message(`spreading the workers anew, over ${hosts.join(', ')}`);
  return { checkpoint, state };
}

/**
 * Whether to go on after a fault, and when.
 * @throws the fault, or what `Restarts` makes of it, where the run is not to go on
 */
async function judge(
  fault: unknown,
  { restarts, recorder, board, latest, copies, state, stop }: Underway,
): Promise<void> {
  const safeStep = Math.max(latest?.step ?? -1, copies?.step ?? -1);
  const pause = restarts.allow(fault, state.step + 1, safeStep);
  const { message } = fault as SluiceError;
  // Whoever wants the run to end does not want it to begin anew.
  if (stop.requested) throw interrupted(message, latest);
  board.noteFault(message);
  recorder.message(message, 'error');
  if (pause > 0) await delay(pause);
}

/** Takes a run back to the newest state that is whole: copies in the hosts' memory, a checkpoint, or its beginning. */
async function goBack(
  { run, config, journal, fleet }: Session,
  underway: Underway,
  { code, message }: SluiceError,
  hosts: readonly Host[],
): Promise<Start | undefined> {
  const { recorder, latest, copies } = underway;
  const isNewer = copies !== undefined && copies.step > (latest?.step ?? -1) && isWholeOn(copies, hosts);
  // Copies that cannot be loaded are not tried twice.
  underway.copies = undefined;
  const start = isNewer ? { state: copies.state, copies } : await newestCheckpoint(run);
  const step = start?.state.step ?? 0;
  const { workers, expertParallel } = worldThatFits(hosts, config.parallel);
  journal.append('restart', step, {
    ...(start?.checkpoint && { checkpoint: pathInRun(run.path, start.checkpoint.path) }),
    ...(isNewer && { fromMemory: true }),
    ...{ code, message, workers, expertParallel },
    ...(fleet.network && { hosts: hosts.map(({ name }) => name) }),
  });
  await recorder.goBack(() => supersedeAfter(run.path, step));
  recorder.message(
    `going on by itself from step ${step}${isNewer ? ', of which the hosts have copies' : ''}`,
    'warning',
  );
  return start;
}

async function newestCheckpoint(run: RunDirectory): Promise<Start | undefined> {
  const history = checkpointHistory(readJournal(run.journal));
  const { from, refused } = await startingPoint(run, history);
  if (!from) refuseLostCheckpoints(run, history, refused);
  return from;
}

async function train(
  session: Session,
  placements: readonly Placement[],
  workers: Workers,
  spikes: SpikeDetector,
  underway: Underway,
): Promise<SessionOutcome> {
  const { run, config, dataset, tokenizer, journal, from, lastStep, fleet, lock } = session;
  const { state, recorder, board, stop } = underway;
  const [started] = await workers.call('initialize', {
    config,
    // Other hosts have other working directories.
    dataDirectory: resolve(dataset.directory),
    ...(from?.copies
      ? { memory: memoryRequest(from.copies, placements) }
      : from?.checkpoint && { checkpoint: from.checkpoint.path }),
  });
  const tensors = modelTensors(config.model).map(({ name, shape }) => ({ name, shape }));
  const warn = (text: string) => recorder.message(text, 'warning');
  const writer = {
    ...{ run, config, dataset, tokenizer, tensors, workers, journal, warn },
    assertOwned: () => lock.assertOwned(),
    remains: new Set<string>(),
  };
  const diagnostics = new OptionalFile(basename(run.diagnostics), warn);
  const training = trainRun({
    config,
    workers,
    journal,
    observer: recorder,
    stop,
    assertOwned: () => lock.assertOwned(),
    wantsRegroup: () => fleet.hasNewcomers(),
    state,
    spikes,
    afterStep: [
      diagnosticsAfterStep(config, (record) =>
        diagnostics.write(record.step, () => appendDiagnostics(run.diagnostics, record)),
      ),
      copiesAfterStep({
        everySteps: copyInterval(config, placements.length),
        ...{ placements, tensors, state, warn },
        kept: (copies) => {
          underway.copies = copies;
        },
      }),
      stragglersAfterStep((rank) => board.placeOf(rank), journal, warn),
      ...(fleet.network ? [fleetAfterStep(fleet, board, recorder)] : []),
    ],
    savedStep: underway.latest?.step ?? -1,
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
    isStopFinal: board.isStopFinal,
    state,
    checkpoint: underway.latest!,
    tokensPerSecond: recorder.tokensPerSecond(),
    parameters: started!.parameters,
  };
}

/** The run was to be saved and stopped, and its workers failed before it was. */
function interrupted(fault: string, latest: CommittedCheckpoint | undefined): SluiceError {
  const since = latest ? `the work since step ${latest.step}` : 'all work';
  return new SluiceError('SLUICE_E_INTERRUPTED', `Asked to stop; ${since} could not be saved: ${fault}`);
}

/** An interruption that no scheduler is to mend by starting the run again. */
function stoppedForGood(error: unknown): unknown {
  if (!(error instanceof SluiceError && error.code === 'SLUICE_E_INTERRUPTED')) return error;
  return new SluiceError(error.code, error.message, {
    details: { ...error.details, isFinal: true },
    cause: error,
  });
}

function noteStall(journal: Journal, { recorder, state }: Underway, stall: Stall): void {
  recorder.message(stallLine(stall), 'warning');
  const missing = stall.missing.map(({ rank, host, pid, doing }) => ({
    rank,
    host,
    ...(pid && { pid }),
    doing,
  }));
  journal.note('stall', state.step, { task: stall.task, seconds: stall.seconds, missing });
}

/** A fault with the way to go on after it. */
function withRecovery(error: unknown, run: RunDirectory, latest: CommittedCheckpoint | undefined): unknown {
  if (!(error instanceof SluiceError && isFault(error))) return error;
  const from = latest ? `The last checkpoint is step ${latest.step}` : 'There is no checkpoint yet';
  const { code, message, details } = error;
  const command = `sluice resume ${shellQuote(run.path)}`;
  return new SluiceError(code, `${message} ${from}; go on with: ${command}`, { details, cause: error });
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
