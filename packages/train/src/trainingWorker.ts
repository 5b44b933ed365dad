/** The worker's side of the protocol: carries out what the coordinator asks, with a `Trainer`. */

import { openCheckpoint, writeShard } from '@sluice/checkpoint';
import { openWeights } from '@sluice/checkpoint/huggingface';
import { invariant, makeDirectories, SluiceError } from '@sluice/core';
import { openRunData, type RunData } from '@sluice/data';
import { arithmetic, selectBackend, setThreads, threads } from '@sluice/engine';
import { countParameters } from '@sluice/model';
import { broughtCheckpoint, broughtHere, collectedSave } from './collected.ts';
import type { RunConfig } from './config.ts';
import type { Samplers } from './forwardPasses.ts';
import { gatherCopies, keepCopies } from './memoryCopies.ts';
import { flipBy, POISON_VARIABLE, poisonedSource, poisonFrom } from './poison.ts';
import type {
  CopyRequest,
  DiagnoseRequest,
  EvaluateRequest,
  ExamineResult,
  InitializeRequest,
  InitializeResult,
  Probe,
  RestoreRequest,
  SampleRequest,
  SaveRequest,
  SaveResult,
  SnapshotRequest,
  StageResult,
  StepRequest,
  StepResult,
  WorkerMethods,
  WrittenResult,
} from './protocol.ts';
import { Snapshots } from './snapshots.ts';
import { StagedSave } from './stagedSave.ts';
import { recordStep } from './stepTimeline.ts';
import { Replicas } from './synchronize/replicas.ts';
import { topology } from './topology.ts';
import { Trainer } from './trainer.ts';
import { keepOptimizer, nonFinite } from './trainerState.ts';
import { beginFrom } from './weights.ts';
import type { Workers } from './workers.ts';

/** Largest relative difference of the probe's loss between two kinds of arithmetic. */
const PROBE_TOLERANCE = 1e-3;

class TrainingWorker {
  readonly #workers: Workers;
  readonly #snapshots = new Snapshots();
  readonly #staged = new StagedSave();
  #trainer: Trainer | Replicas | undefined;
  #data: RunData | undefined;

  constructor(workers: Workers) {
    this.#workers = workers;
  }

  async initialize(request: InitializeRequest): Promise<InitializeResult> {
    this.#workers.progress('preparing the model');
    const { config, dataDirectories, datasetHash, checkpoint, memory } = request.brought
      ? broughtHere(request)
      : request;
    const backend = await selectBackend(config.backend, config.precision);
    setThreads(config.parallel.threads || Number(process.env.SLUICE_THREADS ?? 1));
    this.#data = openRunData(config.data, config.seed, dataDirectories, datasetHash);
    const poison = poisonFrom(process.env[POISON_VARIABLE]);
    const { train, validation } = samplersOf(this.#data, config);
    const world = topology(this.#workers, config.parallel.expertParallel);
    const samplers = { train: poisonedSource(train, poison, config), validation };
    const trainer = config.parallel.synchronize
      ? new Replicas(config, this.#workers, world, samplers)
      : new Trainer(config, world, samplers);
    for (const one of trainersOf(trainer)) one.tamper = flipBy(poison, this.#workers.rank);
    this.#trainer = trainer;
    let step = 0;
    if (memory) step = await this.#restore(trainer, await gatherCopies(this.#workers, memory));
    else if (checkpoint) step = await this.#restore(trainer, checkpoint);
    else await this.#begin(trainer, config);
    const { total, active } = countParameters(config.model);
    const { description: exchange } = world.devices;
    return {
      ...{ backend, arithmetic: arithmetic(), threads: threads() },
      ...{ parameters: { total, active }, step },
      ...(exchange !== undefined && { exchange }),
    };
  }

  async step(request: StepRequest): Promise<StepResult> {
    this.#workers.progress(`step ${request.step}`);
    const take = () => this.trainer.trainStep(request);
    if (!request.timeline) return take();
    const { result, timeline } = await recordStep(this.#workers, take);
    return { ...result, timeline };
  }

  async evaluate({ sequences }: EvaluateRequest) {
    this.#workers.progress('validation');
    return this.trainer.evaluate(sequences);
  }

  async diagnose(request: DiagnoseRequest) {
    this.#workers.progress('diagnostics');
    return this.trainer.diagnose(request);
  }

  async sample(request: SampleRequest) {
    this.#workers.progress('sampling');
    return this.trainer.sample(request);
  }

  async snapshot({ step }: SnapshotRequest) {
    this.#workers.progress('keeping a state in memory');
    this.#snapshots.take(step, this.#alone);
    return {};
  }

  async restore({ snapshot, checkpoint: named, isBrought }: RestoreRequest) {
    this.#workers.progress('going back');
    const checkpoint = isBrought ? broughtCheckpoint() : named;
    if (snapshot !== undefined) this.#snapshots.restore(snapshot, this.#alone);
    else if (checkpoint === undefined) this.#snapshots.restart(this.#alone);
    else this.#snapshots.forgetAfter(await this.#restore(this.trainer, checkpoint));
    return {};
  }

  async examine(): Promise<ExamineResult> {
    this.#workers.progress('examining the weights');
    const probe: Probe = { loss: await this.trainer.probeLoss(), arithmetic: arithmetic() };
    return { probe, nonFinite: nonFinite(this.trainer.pieces()) };
  }

  async save({ directory: shared, writer, isFetched }: SaveRequest): Promise<SaveResult> {
    this.#workers.progress('saving');
    // Before anything that can fail on one worker alone, while the others would wait for it.
    const state = this.trainer.state();
    const directory = isFetched ? collectedSave() : shared;
    if (isFetched) makeDirectories(directory);
    const shard = await writeShard(directory, this.#workers.rank, this.trainer.pieces(), { writer });
    return { shard, state };
  }

  async stage(): Promise<StageResult> {
    this.#workers.progress('staging a checkpoint');
    // As in `save`, before anything that can fail.
    const state = this.trainer.state();
    this.#staged.stage(this.trainer.pieces());
    return { state };
  }

  async write({ directory: shared, writer, isFetched = false }: SaveRequest) {
    const directory = isFetched ? collectedSave() : shared;
    this.#staged.write(directory, this.#workers.rank, { writer, makes: isFetched });
    return {};
  }

  async written(): Promise<WrittenResult> {
    return this.#staged.written;
  }

  async copy(request: CopyRequest): Promise<SaveResult> {
    this.#workers.progress('copying to memory');
    const state = this.trainer.state();
    const shard = await keepCopies(this.#workers, this.trainer.pieces(), request);
    return { shard, state };
  }

  get trainer(): Trainer | Replicas {
    invariant(this.#trainer, 'a worker is asked to work before it was initialized');
    return this.#trainer;
  }

  /** For what replicas that train apart are not asked for. */
  get #alone(): Trainer {
    const { trainer } = this;
    invariant(trainer instanceof Trainer, 'replicas do not go back');
    return trainer;
  }

  close(): void {
    this.#data?.close();
  }

  async #begin(trainer: Trainer | Replicas, config: RunConfig): Promise<void> {
    const { from, optimizer } = config.initialize;
    if (from === undefined) return trainer.initialize();
    const source = await openWeights(from);
    try {
      for (const one of trainersOf(trainer)) await beginFrom(source, one, config);
    } finally {
      await source.close();
    }
    if (trainer instanceof Replicas) trainer.begin();
    else if (optimizer === 'keep') await this.#keepOptimizer(trainer, from);
  }

  async #keepOptimizer(trainer: Trainer, directory: string): Promise<void> {
    const reader = await openCheckpoint(directory);
    try {
      await keepOptimizer(trainer, reader);
    } finally {
      await reader.close();
    }
  }

  async #restore(trainer: Trainer | Replicas, directory: string): Promise<number> {
    const reader = await openCheckpoint(directory);
    try {
      await trainer.load(reader);
      const probe = reader.manifest.probe as unknown as Partial<Probe>;
      // Copies in memory are of this arithmetic, and have none: it would cost a forward pass each.
      if (isProbe(probe)) {
        checkProbe(probe, { loss: await trainer.probeLoss(), arithmetic: arithmetic() }, directory);
      }
      return reader.manifest.step;
    } finally {
      await reader.close();
    }
  }
}

function trainersOf(trainer: Trainer | Replicas): readonly Trainer[] {
  return trainer instanceof Trainer ? [trainer] : trainer.trainers;
}

function samplersOf({ train, validation }: RunData, { data: { mixture } }: RunConfig): Samplers {
  if (validation.length === 0) return { train };
  return { train, validation: mixture ? validation : validation[0]!.source };
}

function isProbe(probe: Partial<Probe>): probe is Probe {
  return probe.loss !== undefined;
}

/** Refuses a checkpoint whose model does not compute what it computed when it was saved. */
function checkProbe(saved: Probe, now: Probe, directory: string): void {
  const difference = Math.abs(now.loss - saved.loss) / Math.max(Math.abs(saved.loss), Number.MIN_VALUE);
  const allowed = now.arithmetic === saved.arithmetic ? 0 : PROBE_TOLERANCE;
  if (difference <= allowed) return;
  throw new SluiceError(
    'SLUICE_E_CHECKPOINT_PROBE',
    `The model loaded from ${directory} has a probe loss of ${now.loss} (${now.arithmetic}), but ${saved.loss} (${saved.arithmetic}) was saved.`,
    { details: { directory, saved, now } },
  );
}

/** What a worker process serves, given its connection to the other workers. */
export function createTrainingWorker(workers: Workers): WorkerMethods {
  const worker = new TrainingWorker(workers);
  return {
    initialize: (request) => worker.initialize(request),
    step: (request) => worker.step(request),
    evaluate: (request) => worker.evaluate(request),
    diagnose: (request) => worker.diagnose(request),
    sample: (request) => worker.sample(request),
    snapshot: (request) => worker.snapshot(request),
    restore: (request) => worker.restore(request),
    examine: () => worker.examine(),
    save: (request) => worker.save(request),
    stage: () => worker.stage(),
    write: (request) => worker.write(request),
    written: () => worker.written(),
    copy: (request) => worker.copy(request),
    stop: async () => {
      worker.close();
      return {};
    },
  };
}
