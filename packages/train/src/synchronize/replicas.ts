/**
 * Low-communication training (`SynchronizeConfig`): this worker's share of replicas that train apart, each by a `Trainer` of its own,
 * and of the outer model that brings them together. Within a replica its workers share the work as those of a synchronous run do.
 *
 * The outer weights are those of the last synchronization, of each part of the model its own. They are the run's weights: what is
 * validated, measured, saved as the model, and proven by a checkpoint's probe.
 */

import type { CheckpointReader, Piece } from '@sluice/checkpoint';
import { flatMemory } from '@sluice/engine';
import type { RunConfig } from '../config.ts';
import type { Diagnostics } from '../diagnostics/summary.ts';
import { ForwardPasses, type Samplers } from '../forwardPasses.ts';
import { gatherTexts } from '../gatherTexts.ts';
import type {
  DiagnoseRequest,
  EvaluateResult,
  SampleRequest,
  SampleResult,
  StepRequest,
  StepResult,
} from '../protocol.ts';
import { StopWatch } from '../stopWatch.ts';
import type { Topology } from '../topology.ts';
import { Trainer } from '../trainer.ts';
import { momentPieces, readMoments, replicaTensor, restoreState, trainerState } from '../trainerState.ts';
import { readWeights } from '../weights.ts';
import type { Workers } from '../workers.ts';
import { combineReplicas, sumOfEach } from './combine.ts';
import type { SynchronizeConfig } from './config.ts';
import { type ReplicaLayout, replicaConfig, replicaLayout, replicaRequest } from './layout.ts';
import { OuterModel } from './outerModel.ts';
import { dealParts, partsDue } from './parts.ts';
import type { ReplicasState } from './replicasState.ts';

export class Replicas {
  readonly #config: RunConfig;
  readonly #settings: SynchronizeConfig;
  readonly #workers: Workers;
  readonly #layout: ReplicaLayout;
  readonly #forward: ForwardPasses;
  readonly #watch: StopWatch;
  readonly #outer: OuterModel;
  /** Whether the replicas' weights are the outer ones. */
  #areTogether = false;
  /** Of the own replicas, in order. */
  readonly trainers: readonly Trainer[];

  /** @param world of all workers, by which forward passes are shared out */
  constructor(config: RunConfig, workers: Workers, world: Topology, samplers: Samplers) {
    this.#config = config;
    this.#settings = config.parallel.synchronize!;
    this.#workers = workers;
    const { replicas } = this.#settings;
    this.#layout = replicaLayout(workers, replicas, config.parallel.expertParallel);
    this.#watch = new StopWatch(workers.blocked);
    const ownConfig = replicaConfig(config, replicas);
    this.trainers = this.#layout.replicas.map(() => new Trainer(ownConfig, this.#layout.topology, samplers));
    const [first] = this.trainers;
    this.#forward = new ForwardPasses(config, world, samplers, first!.model, () => first!.expertLoads);
    const { partOf } = dealParts(config.model, this.#settings.parts);
    this.#outer = new OuterModel(this.#settings, this.#layout, this.trainers, partOf);
  }

  initialize(): void {
    for (const trainer of this.trainers) trainer.initialize();
    this.begin();
  }

  /** Takes the weights that all replicas have for the outer ones. */
  begin(): void {
    this.#outer.begin();
    this.#areTogether = true;
  }

  /** One step of each replica, and what is due of synchronizations. All workers call it together. */
  async trainStep(request: StepRequest): Promise<StepResult> {
    this.#areTogether = false;
    const results: StepResult[] = [];
    for (const [i, trainer] of this.trainers.entries()) {
      results.push(await trainer.trainStep(replicaRequest(request, this.#config, this.#layout.replicas[i]!)));
    }
    const combined = combineReplicas(results);
    this.#watch.restart();
    this.#synchronize(request.step);
    this.#watch.optimized();
    const replicas = results.map((result, i) => ({ replica: this.#layout.replicas[i]!, result }));
    const seconds = sumOfEach([combined.seconds, this.#watch.seconds()]);
    return { ...combined, seconds, replicas };
  }

  evaluate(sequences: number): Promise<EvaluateResult> {
    return this.#withOuter(() => this.#forward.evaluate(sequences));
  }

  /** Replicas differ in how far their last update moved them, so nothing is told of that. */
  diagnose(request: DiagnoseRequest): Promise<Diagnostics> {
    return this.#withOuter(() => this.#forward.diagnose(request, () => undefined));
  }

  sample(request: SampleRequest): Promise<SampleResult> {
    return this.#withOuter(() => this.#forward.sample(request));
  }

  probeLoss(): Promise<number> {
    return this.#withOuter(() => this.#forward.probeLoss());
  }

  /** Views, valid until the next step. What all replicas have in common, the first one's workers own. */
  pieces(): Piece[] {
    const isFirst = this.#layout.replicas[0] === 0;
    const own = this.trainers.flatMap((trainer, i) => {
      const named = <Of extends { readonly tensor: Piece['tensor'] }>(piece: Of): Of => ({
        ...piece,
        tensor: { ...piece.tensor, name: replicaTensor(this.#layout.replicas[i]!, piece.tensor.name) },
      });
      const weights = this.#outer.pieces.map(
        ({ tensor, begin, end, inner }): Piece => ({
          tensor,
          kind: 'replica',
          begin,
          end,
          values: flatMemory().read(inner[i]!),
        }),
      );
      return [...weights, ...momentPieces(trainer)].map(named);
    });
    return [...(isFirst ? this.#outer.savedPieces() : []), ...own, ...this.#outer.sentPieces()];
  }

  /** All workers call it together; the same on all of them. */
  state(): Readonly<Record<string, unknown>> {
    const isLeader = this.#layout.topology.rank === 0;
    const own = this.trainers.map((trainer) => trainerState(trainer));
    const texts = gatherTexts(this.#workers.world, JSON.stringify(isLeader ? own : []));
    const { underway } = this.#outer;
    const replicas = texts.flatMap((text) => JSON.parse(text) as unknown[]);
    return { replicas, ...(underway && { underway }) } satisfies ReplicasState;
  }

  /** Reads what this worker holds, however many workers saved it. */
  async load(reader: CheckpointReader): Promise<void> {
    const { replicas, underway } = reader.manifest.state.worker as unknown as ReplicasState;
    for (const [i, trainer] of this.trainers.entries()) {
      const replica = this.#layout.replicas[i]!;
      await readWeights(trainer, ({ name, size }, target) =>
        reader.readRange('replica', replicaTensor(replica, name), 0, size, target),
      );
      await readMoments(trainer, reader, (name) => replicaTensor(replica, name));
      restoreState(trainer, replicas[replica] as Readonly<Record<string, unknown>>);
    }
    await this.#outer.load(reader, underway);
    this.#areTogether = false;
  }

  #synchronize(step: number): void {
    const { overlapSteps } = this.#settings;
    const lastStep = this.#config.training.steps;
    const isLast = step === lastStep;
    this.#outer.goOn(step, isLast);
    const due = partsDue(step, lastStep, this.#settings);
    for (const part of due) {
      this.#outer.send({ part, step });
      if (isLast || overlapSteps === 0) this.#outer.arrive(0);
    }
    this.#areTogether = this.#outer.underway === undefined && due.length === this.#settings.parts;
  }

  /** All workers call it together. */
  #withOuter<Result>(pass: () => Promise<Result>): Promise<Result> {
    return this.#areTogether ? pass() : this.#outer.lend(0, pass);
  }
}
