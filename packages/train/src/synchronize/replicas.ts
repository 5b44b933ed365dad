/**
 * Low-communication training (`SynchronizeConfig`): this worker's share of replicas that train apart, each by a `Trainer` of its own,
 * and of the outer optimizer that brings them together. Within a replica its workers share the work as those of a synchronous run do.
 *
 * The outer weights are those of the last synchronization, of each part of the model its own. They are the run's weights: what is validated, measured, saved as the model,
 * and proven by a checkpoint's probe. A worker holds the parts of them, and of their momentum, that it owns in its replica.
 */

import type { CheckpointReader, Piece } from '@sluice/checkpoint';
import { sharedFloat32 } from '@sluice/collectives';
import { type Floats, flatMemory } from '@sluice/engine';
import type { RunConfig } from '../config.ts';
import type { Diagnostics } from '../diagnostics/summary.ts';
import { ForwardPasses, type Samplers } from '../forwardPasses.ts';
import { gatherTexts } from '../gatherTexts.ts';
import type { OptimizedPiece } from '../optimizer/pieces.ts';
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
import { sumDifferences, sumQuantized } from './outerGradient.ts';
import { difference, outerStep } from './outerOptimizer.ts';
import { dealParts, partsDue } from './parts.ts';
import { GROUP_VALUES } from './quantize.ts';

/** A piece of the model that this worker owns, the same of each of its replicas. */
interface OuterPiece extends Pick<OptimizedPiece, 'tensor' | 'begin' | 'end'> {
  /** Of each own replica. */
  readonly inner: readonly Floats[];
  /** Where it lies among all of the outer weights. */
  readonly at: number;
}

/** What is brought together at once. */
interface OuterPart {
  readonly stages: ReadonlySet<number>;
  readonly pieces: readonly OuterPiece[];
  /** Where its pieces lie among all of the outer weights. */
  readonly start: number;
  readonly end: number;
}

export class Replicas {
  readonly #config: RunConfig;
  readonly #settings: SynchronizeConfig;
  readonly #workers: Workers;
  readonly #layout: ReplicaLayout;
  readonly #forward: ForwardPasses;
  readonly #watch: StopWatch;
  readonly #parts: readonly OuterPart[];
  readonly #weights: Float32Array;
  readonly #momentum: Float32Array;
  /** Of each own replica, for one part at a time; the first is sent. */
  readonly #differences: readonly Float32Array[];
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
    this.#parts = outerParts(this.trainers, dealParts(config.model, this.#settings.parts).partOf);
    const length = this.#parts.at(-1)!.end;
    this.#weights = new Float32Array(length);
    this.#momentum = new Float32Array(length);
    const longest = Math.max(...this.#parts.map(({ start, end }) => end - start));
    this.#differences = this.trainers.map((_, i) =>
      i === 0 ? sharedFloat32(longest) : new Float32Array(longest),
    );
  }

  initialize(): void {
    for (const trainer of this.trainers) trainer.initialize();
    this.begin();
  }

  /** Takes the weights that all replicas have for the outer ones. */
  begin(): void {
    for (const { inner, at } of this.#pieces) this.#weights.set(flatMemory().read(inner[0]!), at);
    this.#momentum.fill(0);
    this.#areTogether = true;
  }

  /** One step of each replica, and, where it is due, the synchronization. All workers call it together. */
  async trainStep(request: StepRequest): Promise<StepResult> {
    this.#areTogether = false;
    const results: StepResult[] = [];
    for (const [i, trainer] of this.trainers.entries()) {
      results.push(await trainer.trainStep(replicaRequest(request, this.#config, this.#layout.replicas[i]!)));
    }
    const combined = combineReplicas(results);
    this.#watch.restart();
    this.#synchronize(partsDue(request.step, this.#config.training.steps, this.#settings));
    this.#watch.optimized();
    const replicas = results.map((result, i) => ({ replica: this.#layout.replicas[i]!, result }));
    const seconds = sumOfEach([combined.seconds, this.#watch.seconds()]);
    return { ...combined, seconds, replicas };
  }

  evaluate(sequences: number): Promise<EvaluateResult> {
    return this.#withOuterWeights(() => this.#forward.evaluate(sequences));
  }

  /** Replicas differ in how far their last update moved them, so nothing is told of that. */
  diagnose(request: DiagnoseRequest): Promise<Diagnostics> {
    return this.#withOuterWeights(() => this.#forward.diagnose(request, () => undefined));
  }

  sample(request: SampleRequest): Promise<SampleResult> {
    return this.#withOuterWeights(() => this.#forward.sample(request));
  }

  probeLoss(): Promise<number> {
    return this.#withOuterWeights(() => this.#forward.probeLoss());
  }

  /** Views, valid until the next step. What all replicas have in common, the first one's workers own. */
  pieces(): Piece[] {
    const isFirst = this.#layout.replicas[0] === 0;
    const common = this.#pieces.flatMap(({ tensor, begin, end, at }): Piece[] => {
      const part = (of: Float32Array) => of.subarray(at, at + end - begin);
      return [
        { tensor, kind: 'parameter', begin, end, values: part(this.#weights) },
        { tensor, kind: 'outerMomentum', begin, end, values: part(this.#momentum) },
      ];
    });
    const own = this.trainers.flatMap((trainer, i) => {
      const named = <Of extends { readonly tensor: Piece['tensor'] }>(piece: Of): Of => ({
        ...piece,
        tensor: { ...piece.tensor, name: replicaTensor(this.#layout.replicas[i]!, piece.tensor.name) },
      });
      const weights = this.#pieces.map(
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
    return [...(isFirst ? common : []), ...own];
  }

  /** All workers call it together; the same on all of them. */
  state(): Readonly<Record<string, unknown>> {
    const isLeader = this.#layout.topology.rank === 0;
    const own = this.trainers.map((trainer) => trainerState(trainer));
    const texts = gatherTexts(this.#workers.world, JSON.stringify(isLeader ? own : []));
    return { replicas: texts.flatMap((text) => JSON.parse(text) as unknown[]) };
  }

  /** Reads what this worker holds, however many workers saved it. */
  async load(reader: CheckpointReader): Promise<void> {
    const { replicas } = reader.manifest.state.worker as { replicas: Readonly<Record<string, unknown>>[] };
    for (const [i, trainer] of this.trainers.entries()) {
      const replica = this.#layout.replicas[i]!;
      await readWeights(trainer, ({ name, size }, target) =>
        reader.readRange('replica', replicaTensor(replica, name), 0, size, target),
      );
      await readMoments(trainer, reader, (name) => replicaTensor(replica, name));
      restoreState(trainer, replicas[replica]!);
    }
    for (const { tensor, begin, end, at } of this.#pieces) {
      const part = (of: Float32Array) => of.subarray(at, at + end - begin);
      await reader.readRange('parameter', tensor.name, begin, end, part(this.#weights));
      await reader.readRange('outerMomentum', tensor.name, begin, end, part(this.#momentum));
    }
    this.#areTogether = false;
  }

  #synchronize(due: readonly number[]): void {
    if (due.length === 0) return;
    this.#settle();
    for (const part of due) this.#bringTogether(this.#parts[part]!);
    this.#areTogether = due.length === this.#parts.length;
  }

  #bringTogether(part: OuterPart): void {
    const { pieces, start, end } = part;
    // What lies between pieces shares scales with them, and is of another part.
    const differences = this.#differences.map((values) => values.subarray(0, end - start).fill(0));
    for (const { inner, at, begin, end } of pieces) {
      const outer = this.#weights.subarray(at, at + end - begin);
      for (const [i, values] of inner.entries())
        difference(
          outer,
          flatMemory().read(values),
          differences[i]!.subarray(at - start, at - start + end - begin),
        );
    }
    const sum = this.#settings.outerGradients === 'int8' ? sumQuantized : sumDifferences;
    sum(this.#layout.counterparts, differences);
    const [weights, momentum] = [this.#weights, this.#momentum].map((all) => all.subarray(start, end));
    outerStep(weights!, momentum!, differences[0]!, this.#settings);
    for (const i of this.trainers.keys()) this.#takeOuterWeights(i, [part]);
  }

  /** Gives the model that computes forward passes the outer weights for the time of `pass`. All workers call it together. */
  async #withOuterWeights<Result>(pass: () => Promise<Result>): Promise<Result> {
    if (this.#areTogether) return pass();
    this.#settle();
    const kept = this.#pieces.map(({ inner }) => flatMemory().read(inner[0]!).slice());
    this.#takeOuterWeights(0);
    try {
      return await pass();
    } finally {
      this.#settle();
      for (const [i, { inner }] of this.#pieces.entries()) flatMemory().write(inner[0]!, kept[i]!);
      for (const { optimizer } of this.trainers[0]!.spaces) optimizer.share();
    }
  }

  #takeOuterWeights(index: number, parts = this.#parts): void {
    for (const { pieces, stages } of parts) {
      for (const { inner, at, begin, end } of pieces) {
        flatMemory().write(inner[index]!, this.#weights.subarray(at, at + end - begin));
      }
      for (const { optimizer } of this.trainers[index]!.spaces) optimizer.share(stages);
    }
  }

  get #pieces(): OuterPiece[] {
    return this.#parts.flatMap(({ pieces }) => pieces);
  }

  /** What is still being sent must not be changed. */
  #settle(): void {
    for (const { spaces } of this.trainers) for (const { optimizer } of spaces) optimizer.settle();
  }
}

/**
 * The owned pieces part after part, one after the other, each from a multiple of the values that share a scale.
 * @param partOf of each stage
 */
function outerParts(trainers: readonly Trainer[], partOf: readonly number[]): OuterPart[] {
  const owned = trainers.map(({ spaces }) => spaces.flatMap(({ optimizer }) => optimizer.pieces));
  let length = 0;
  const place = ({ tensor, begin, end }: OptimizedPiece, piece: number): OuterPiece => {
    const at = length;
    length += Math.ceil((end - begin) / GROUP_VALUES) * GROUP_VALUES;
    return { tensor, begin, end, at, inner: owned.map((of) => of[piece]!.values) };
  };
  return Array.from({ length: Math.max(...partOf) + 1 }, (_, part) => {
    const start = length;
    const pieces = owned[0]!.flatMap((piece, i) =>
      partOf[piece.spec.stage] === part ? [place(piece, i)] : [],
    );
    const stages = new Set([...partOf.keys()].filter((stage) => partOf[stage] === part));
    return { stages, pieces, start, end: length };
  });
}
