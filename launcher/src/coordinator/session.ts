/** One invocation of `train` or `resume`: workers started, and started anew after faults, until the run is where it is to stop. */

import { basename, resolve } from 'node:path';
import { hashConfig, SluiceError } from '@sluice/core';
import { appendDiagnostics, appendSamples } from '@sluice/observe';
import {
  POISON_VARIABLE,
  type Poison,
  poisonedRate,
  poisonFrom,
  SpikeDetector,
  type SpikeDetectorState,
  savedTensors,
  vainPoison,
} from '@sluice/train';
import { workingOn } from '../cli/failure.ts';
import type { Host } from '../fleet/host.ts';
import { releaseHostMemory, sweepHostMemory } from '../fleet/hostMemory.ts';
import { type Placement, placeWorkers, worldThatFits } from '../fleet/placement.ts';
import type { Journal } from '../run/journal.ts';
import { recoveryFromStop } from '../run/recovery.ts';
import { refuseVanished } from '../run/runDirectory.ts';
import { configInRun, pathInRun } from '../run/runPaths.ts';
import { RUN_VARIABLE, runToken } from '../run/runToken.ts';
import { watchParent } from '../signals/parentWatch.ts';
import { ABORTED_EXIT_CODE, installStopSignal } from '../signals/stopSignal.ts';
import {
  copiesLost,
  goBack,
  judge,
  leaveOutApart,
  stoppedForGood,
  whenWritable,
  withRecovery,
} from './afterFault.ts';
import {
  type CommittedCheckpoint,
  saveCheckpoint,
  stageCheckpoint,
  type UnsoundState,
} from './checkpoints.ts';
import { Collection } from './collection.ts';
import { computesOnDevices } from './devices.ts';
import { diagnosticsAfterStep } from './diagnostics.ts';
import { fleetAfterStep } from './fleetView.ts';
import { goBackTo, HeldStates, snapshotsAfterStep } from './goingBack.ts';
import type { Interludes } from './interludes.ts';
import { copiesAfterStep, copyInterval, memoryRequest } from './memoryCopies.ts';
import { demandOneArithmetic } from './oneArithmetic.ts';
import { OptionalFile } from './optionalFile.ts';
import { leaveRecord } from './recalledCopies.ts';
import { openRecorder, type Recorder } from './recorder.ts';
import { Restarts } from './restarts.ts';
import { RunBoard } from './runBoard.ts';
import { samplesAfterStep } from './samples.ts';
import { Sinks } from './sinks.ts';
import { watchMeasurements } from './spikes.ts';
import { holdsOut } from './splits.ts';
import { type Stall, stallLine } from './stall.ts';
import { type CoordinatorState, initialState } from './state.ts';
import { stragglersAfterStep } from './stragglers.ts';
import { startTeam } from './team.ts';
import { statusAfterStep } from './tellStatus.ts';
import { timelinesAfterStep } from './timelines.ts';
import type { AfterStep, TrainingRun } from './trainingRun.ts';
import { trainRun } from './trainRun.ts';
import type { Session, SessionOutcome, Start, Underway } from './underway.ts';
import { type Workers, withPlaces } from './workers.ts';
import { ArithmeticFaults, canDoWithoutHost, judgeArithmetic } from './wrongArithmetic.ts';

/** Trains on workers that are started anew after each fault, as long as that makes sense, and ends them whatever happens. */
export async function runSession(session: Session): Promise<SessionOutcome> {
  const { run, config, from, id } = session;
  const token = runToken(run.path, id);
  workingOn(run.path);
  const sinks = new Sinks();
  const recorder = openRecorder(run.metrics, config, sinks);
  let hasFinished = false;
  const stop = installStopSignal({
    onRequest() {
      board.noteStop('a signal');
      recorder.message('stopping after this step, then saving; press Ctrl-C again to abort');
    },
    onAbort: () => abort(recorder),
  });
  const unwatch = watchParent(() => stop.request());
  const board = new RunBoard({
    ...{ run, token, fleet: session.fleet, steps: config.training.steps },
    step: () => underway.state.step,
    savedStep: () => underway.latest?.step,
    saves: () => recorder.saves(),
  });
  const unhear = session.fleet.onStop((reason) => {
    board.noteStop(reason);
    stop.request();
  });
  const underway: Underway = {
    ...{ recorder, sinks, stop, board, restarts: new Restarts(config.faults), latest: from?.checkpoint },
    copies: undefined,
    arithmetic: new ArithmeticFaults(),
    state: initialState(new SpikeDetector(config.spikes).state()),
  };
  const closeDesk = await board.open(
    () => stop.request(),
    (text) => recorder.message(text, 'warning'),
  );
  const untell = session.fleet.tellBy({ line: (text) => recorder.message(text), status: recorder.status });
  try {
    sweepHostMemory();
    await sinks.open(run, config, (text, kind) => recorder.message(text, kind));
    let hosts = await session.fleet.assemble(false, () => stop.requested);
    for (let start = session.begin ? await session.begin(hosts, recorder) : from; ; ) {
      try {
        const outcome = await trainOn(hosts, { ...session, from: start }, underway);
        hasFinished = outcome.reason === 'finished';
        if (outcome.reason !== 'regroup') return outcome;
        hosts = await session.fleet.assemble(true, () => stop.requested);
        start = regroup(session, outcome, recorder);
      } catch (fault) {
        if (!canDoWithoutHost(fault, session.fleet)) await judge(fault, underway);
        leaveOutApart(fault, session.fleet, underway);
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
    await sinks.close(hasFinished);
    recorder.close();
    releaseHostMemory();
    stop.uninstall();
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
      environment: { [RUN_VARIABLE]: runToken(session.run.path, session.id) },
      watch: (team) => board.watch(team),
      onStall: (stall) => noteStall(session, underway, stall),
    });
    const outcome = await train({ ...session, config: spread }, placements, workers, spikes, underway);
    await workers.stop();
    return outcome;
  } catch (error) {
    await workers?.kill();
    throw withPlaces(error, placements);
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

/** What one set of workers trains with: the session, where they are, and what goes on. */
interface Training {
  readonly session: Session;
  readonly placements: readonly Placement[];
  readonly workers: Workers;
  readonly spikes: SpikeDetector;
  readonly underway: Underway;
  /** Brings and fetches files, where the hosts do not share them. */
  readonly collection: Collection | undefined;
  readonly poison: Poison;
  warn(text: string): void;
}

async function train(
  session: Session,
  placements: readonly Placement[],
  workers: Workers,
  spikes: SpikeDetector,
  underway: Underway,
): Promise<SessionOutcome> {
  const { config, corpora, journal, lastStep, fleet, lock, run } = session;
  const { state, recorder, board, stop } = underway;
  const warn = (text: string) => recorder.message(text, 'warning');
  const collection = collectionFor(session, placements, underway);
  const poison = poisonFrom(process.env[POISON_VARIABLE]);
  const training = { session, placements, workers, spikes, underway, collection, poison, warn };
  const parameters = await initializeWorkers(training);
  warnOfPoison(training);
  const held = new HeldStates();
  const logs = {
    diagnostics: new OptionalFile(basename(run.diagnostics), warn),
    samples: new OptionalFile(basename(run.samples), warn),
  };
  const reason = await trainRun({
    ...{ config, workers, journal, observer: recorder, stop, state, spikes, lastStep },
    assertOwned: () => lock.assertOwned(),
    wantsRegroup: () => fleet.hasNewcomers(),
    afterStep: afterEachStep(training, held, logs),
    savedStep: underway.latest?.step ?? -1,
    validates: holdsOut(corpora),
    ...savingOf(training),
    recovery: (rate) => recoveryFromStop(run, config, rate),
    rateOf: (step) => poisonedRate(poison, step),
    whenWritable: (work) => whenWritable(underway, work),
    goBack: (decision) => goBackTo(decision, { workers, held, collection }, session, underway),
    judgeArithmetic: (result) =>
      judgeArithmetic(
        { journal, warn, placeOf: (rank) => board.placeOf(rank), faults: underway.arithmetic },
        result,
      ),
  }).finally(() => {
    logs.diagnostics.close();
    logs.samples.close();
  });
  return {
    ...{ reason, state, parameters },
    isStopFinal: board.isStopFinal,
    checkpoint: underway.latest!,
    tokensPerSecond: recorder.tokensPerSecond(),
  };
}

function collectionFor(
  { fleet, id }: Session,
  placements: readonly Placement[],
  { recorder, stop }: Underway,
): Collection | undefined {
  if (!fleet.collects) return undefined;
  return new Collection({ run: id, placements, tell: recorder.message, isStopped: () => stop.requested });
}

/** Gives the workers what they begin with. @returns the model's parameters */
async function initializeWorkers({ session, placements, workers, collection, underway }: Training) {
  const { config, corpora, from } = session;
  await collection?.bring({
    corpora: corpora.corpora,
    checkpoint: from?.copies ? undefined : from?.checkpoint?.path,
    weights: from ? undefined : config.initialize.from,
  });
  const initialize = workers.call('initialize', {
    config,
    // Other hosts have other working directories.
    dataDirectories: corpora.directories.map((directory) => resolve(directory)),
    datasetHash: corpora.datasetHash,
    ...(from?.copies
      ? { memory: memoryRequest(from.copies, placements) }
      : from?.checkpoint && { checkpoint: from.checkpoint.path }),
    ...(collection && { brought: corpora.corpora.map(({ manifestHash }) => manifestHash) }),
  });
  const started = await initialize.catch((error: unknown) => {
    throw from?.copies ? copiesLost(from.copies.step, error) : error;
  });
  await collection?.clear('checkpoint', 'weights');
  demandOneArithmetic(started, (rank) => underway.board.placeOf(rank));
  const { exchange, parameters } = started[0]!;
  if (exchange !== undefined) underway.recorder.message(`what GPUs send each other goes ${exchange}`);
  return parameters;
}

function warnOfPoison({ poison, workers, warn }: Training): void {
  if (Object.keys(poison).length > 0) warn(`${POISON_VARIABLE} is set: faults are made on purpose`);
  const vain = vainPoison(poison, workers.count);
  if (vain) warn(vain);
}

/** What is done after every step, in this order. */
function afterEachStep(
  { session, placements, spikes, underway, warn }: Training,
  held: HeldStates,
  logs: Readonly<Record<'diagnostics' | 'samples', OptionalFile>>,
): AfterStep[] {
  const { run, config, corpora, journal, fleet, tokenizer, id } = session;
  const { state, recorder, board } = underway;
  const configNow = configInRun(run.path, config);
  return [
    diagnosticsAfterStep(config, (record) => {
      watchMeasurements({ config, spikes, state }, record);
      logs.diagnostics.write(record.step, () => {
        refuseVanished(run);
        appendDiagnostics(run.diagnostics, record);
      });
      recorder.measured(record);
    }),
    samplesAfterStep({
      ...{ config, tokenizer, folder: run.tokenizer, warn },
      keep: (samples) => {
        logs.samples.write(state.step, () => {
          refuseVanished(run);
          appendSamples(run.samples, samples);
        });
        recorder.sampled(samples);
      },
    }),
    // After what was measured: a state that is gone back to is that of a checkpoint of the same step.
    snapshotsAfterStep(config, state, held),
    copiesAfterStep({
      everySteps: copyInterval(config, placements.length),
      ...{ placements, state, warn },
      tensors: (ofWorkers) => savedTensors(config, ofWorkers),
      of: { config: configNow, configHash: hashConfig(configNow), datasetHash: corpora.datasetHash },
      kept: (copies) => {
        underway.copies = copies;
        const hosts = placements.map(({ host }) => host);
        return leaveRecord(copies, { run: id, journalLength: journal.length }, hosts);
      },
    }),
    stragglersAfterStep((rank) => board.placeOf(rank), journal, warn),
    timelinesAfterStep({
      run,
      hostOf: (rank) => board.placeOf(rank).host,
      send: (timeline, startMs) => underway.sinks.timeline(timeline, startMs),
      tell: (text) => recorder.message(text),
      warn,
    }),
    ...(fleet.network ? [fleetAfterStep(fleet, board, recorder)] : []),
    statusAfterStep(run.path, board, corpora.unigramLoss, (processes) => underway.sinks.processes(processes)),
  ];
}

/** Saves checkpoints, and remembers the newest. */
function savingOf({
  session,
  workers,
  underway,
  collection,
  warn,
}: Training): Pick<TrainingRun, 'checkpoint' | 'stage'> {
  const { run, config, corpora, tokenizer, journal, lock } = session;
  const writer = {
    ...{ run, config, corpora, tokenizer, workers, journal, warn, collection },
    tensors: (state: Readonly<Record<string, unknown>>) => savedTensors(config, state),
    assertOwned: () => lock.assertOwned(),
    remains: new Set<string>(),
  };
  const remembered = <Saved extends CommittedCheckpoint | UnsoundState>(saved: Saved): Saved => {
    if ('path' in saved) underway.latest = saved;
    return saved;
  };
  const stage = async (now: CoordinatorState) => {
    const staged = await stageCheckpoint(writer, now);
    if ('unsound' in staged) return staged;
    return { write: async (between: Interludes) => remembered(await staged.write(between)) };
  };
  return {
    checkpoint: async (now) => remembered(await saveCheckpoint(writer, now)),
    ...(config.checkpoint.asynchronous && { stage }),
  };
}

function noteStall({ run, journal }: Session, { recorder, state }: Underway, stall: Stall): void {
  recorder.message(stallLine(stall), 'warning');
  const states = stall.states && pathInRun(run.path, stall.states);
  const missing = stall.missing.map(({ rank, host, pid, doing }) => ({
    rank,
    host,
    ...(pid && { pid }),
    doing,
  }));
  journal.note('stall', state.step, {
    task: stall.task,
    seconds: stall.seconds,
    missing,
    ...(states && { states }),
  });
}

/** Errors by which the loop ends a run, which are in the journal already. */
const STOPS_OF_THE_LOOP: ReadonlySet<string> = new Set(['SLUICE_E_NON_FINITE', 'SLUICE_E_SPIKE']);

function journalFailure(journal: Journal, step: number, error: unknown): void {
  // The loop has journaled this stop already.
  const isJournaled = error instanceof SluiceError && STOPS_OF_THE_LOOP.has(error.code);
  if (isJournaled) return;
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
