/** One worker's share of the training of one model: the step, the validation, and the state that a checkpoint holds. */

import type { CheckpointReader, Piece } from '@sluice/checkpoint';
import { sharedFloat64 } from '@sluice/collectives';
import { Decoder, expertLayers, initializeTensor, modelParameters } from '@sluice/model';
import { Agreement, makeWhole } from './agreement.ts';
import { balanceChoice } from './balanceBias.ts';
import { corpusShares, firstSampleOfRequest, grainCount } from './batches.ts';
import { sequencesAt } from './batchSizes.ts';
import type { RunConfig } from './config.ts';
import type { Diagnostics } from './diagnostics/summary.ts';
import { GroupExpertExchange } from './expertExchange.ts';
import { FlatSpace } from './flatSpace.ts';
import type { PlacedParameter } from './flatValues.ts';
import { ForwardPasses, type Samplers } from './forwardPasses.ts';
import { GradientBudget } from './gradientMemory.ts';
import { GradientPasses, type StepTotals, type TrainedSpace } from './gradientPasses.ts';
import { GradientSums } from './gradients.ts';
import { Clipping } from './optimizer/clipping.ts';
import { GateDecay } from './optimizer/gateDecay.ts';
import type { OptimizedPiece } from './optimizer/pieces.ts';
import { QkClip } from './optimizer/qkClip.ts';
import { wholeMatrices } from './optimizer/settings.ts';
import { ShardedOptimizer } from './optimizer/sharded.ts';
import type {
  DiagnoseRequest,
  EvaluateResult,
  LastUpdate,
  SampleRequest,
  SampleResult,
  StepRequest,
  StepResult,
  TakenStep,
} from './protocol.ts';
import { StopWatch } from './stopWatch.ts';
import type { Topology } from './topology.ts';
import { loadTrainer, trainerPieces, trainerState } from './trainerState.ts';
import { type UpdateRatios, UpdateSizes } from './updateSizes.ts';

export class Trainer {
  readonly #config: RunConfig;
  readonly #topology: Topology;
  readonly #samplers: Samplers;
  readonly #agreement: Agreement;
  readonly #watch: StopWatch;
  readonly #qkClip: QkClip | undefined;
  readonly #gateDecay: GateDecay | undefined;
  /** As `ShardedOptimizer` has it: of the blocks that this worker owns; zero for all others. */
  readonly #moved: Float64Array;
  readonly #updateSizes: UpdateSizes;
  readonly #gradients: GradientPasses;
  readonly #forward: ForwardPasses;
  readonly spaces: readonly TrainedSpace[];
  readonly clipping: Clipping;
  readonly model: Decoder;
  /** For each layer, the share of the routed tokens that each expert got in the last step. */
  expertLoads: Float32Array[];
  /** The last step, unless there was none or its update was not applied. */
  taken: TakenStep | undefined;
  /**
   * Steps that the moments are of beyond those of the run: those that they were of when it began, less those whose update was left
   * out. They count where AdamW corrects the bias of its moments.
   */
  keptSteps = 0;
  /** How far that step moved the weights, once the workers have agreed on it or a checkpoint has told. */
  takenUpdate: UpdateRatios | undefined;

  constructor(config: RunConfig, topology: Topology, samplers: Samplers) {
    this.#config = config;
    this.#topology = topology;
    this.#samplers = samplers;
    this.#watch = new StopWatch(topology.blocked);
    const { qkClip } = config.optimizer;
    this.#qkClip = qkClip && new QkClip(qkClip.threshold, config.model);
    this.#gateDecay = GateDecay.of(config.optimizer, config.model);
    this.#agreement = new Agreement(config.model, grainCount(config), topology, qkClip !== undefined);
    this.#moved = new Float64Array(this.#agreement.moved.length);
    this.#updateSizes = new UpdateSizes(config.model);
    const { experts, expertReplicas, world, devices } = topology;
    const specs = modelParameters(config.model, { rank: experts.rank, size: experts.size });
    const budget = new GradientBudget(config, topology.world.grid?.perHost);
    const trained = (space: FlatSpace, sources: number) => ({
      space,
      gradients: new GradientSums(space, sources, budget, config.parallel.gradients),
      optimizer: new ShardedOptimizer(config.optimizer, space, this.#agreement.blocks, this.#moved),
    });
    this.clipping = new Clipping(config.optimizer);
    const whole = wholeMatrices(config.optimizer);
    this.spaces = [
      trained(new FlatSpace('replicated', specs, world, whole, devices.link), 1),
      ...(config.model.experts
        ? [trained(new FlatSpace('expert', specs, expertReplicas, whole, devices.link), experts.size)]
        : []),
    ];
    this.model = new Decoder(
      config.model,
      new Map(this.#parameters().map(({ spec, parameter }) => [spec.name, parameter])),
      new GroupExpertExchange(experts, devices.link),
    );
    this.expertLoads = uniformLoads(config);
    this.#gradients = new GradientPasses({
      ...{ config, topology, source: samplers.train, agreement: this.#agreement, moved: this.#moved },
      ...{ spaces: this.spaces, model: this.model, notesLogits: qkClip !== undefined },
    });
    this.#forward = new ForwardPasses(config, topology, samplers, this.model, () => this.expertLoads);
  }

  /** For tests and experiments: may change what this worker contributes to a stage, before it is summed up. */
  set tamper(tamper: GradientPasses['tamper']) {
    this.#gradients.tamper = tamper;
  }

  /** Gives every parameter its initial values. Moments of a new trainer are zero. */
  initialize(): void {
    this.expertLoads = uniformLoads(this.#config);
    this.taken = undefined;
    this.keptSteps = 0;
    this.takenUpdate = undefined;
    this.clipping.restore(undefined);
    const { model, seed } = this.#config;
    for (const { space } of this.spaces) {
      for (const placed of space.parameters) {
        for (const tensor of placed.spec.tensors)
          space.fillTensor(placed, tensor, (values) => initializeTensor(tensor, values, model, seed));
      }
    }
  }

  /** One optimizer step over the global batch. All workers call it together and get the same numbers. */
  async trainStep(request: StepRequest): Promise<StepResult> {
    const { step, learningRate } = request;
    this.#watch.restart();
    const first = await this.#gradients.first(request, this.expertLoads, () => this.#watch.computed());
    const rechecked = isToBeRechecked(first, request)
      ? await this.#gradients.recheck(request, this.expertLoads, first)
      : undefined;
    const totals = rechecked?.totals ?? first;
    const lastUpdate = this.#lastUpdate();

    const isTrusted = rechecked?.result.isSound ?? true;
    const applied = isTrusted && hasNumbers(totals) && !(request.skipOutlying && isOutlying(totals, request));
    this.taken = applied ? { step, learningRate } : undefined;
    this.takenUpdate = undefined;
    if (applied) {
      const gradientScales = this.clipping.scales(totals);
      for (const { optimizer, gradients } of this.spaces) {
        optimizer.settle();
        this.#gateDecay?.apply(optimizer.pieces, learningRate);
        optimizer.update(gradients.total, { step: step + this.keptSteps, learningRate, gradientScales });
      }
      this.#qkClip?.apply(this.#pieces(), totals.largestLogits);
      // Every worker moves all of these alike, so that what owners send of them is what the others have.
      balanceChoice(this.#config.model, this.#parameters(), this.#agreement.expertCounts);
      for (const { optimizer } of this.spaces) optimizer.share();
      this.expertLoads = totals.expertLoads;
    } else {
      this.keptSteps--;
    }
    this.#watch.optimized();
    return {
      ...{ step, ...this.#report(totals), applied },
      ...(lastUpdate && { lastUpdate }),
      ...this.#corpusShares(request),
      ...(rechecked && { recheck: rechecked.result }),
    };
  }

  /** As `ForwardPasses.evaluate`. */
  evaluate(sequences: number): Promise<EvaluateResult> {
    return this.#forward.evaluate(sequences);
  }

  /** As `ForwardPasses.diagnose`, with the size of the last update. */
  diagnose(request: DiagnoseRequest): Promise<Diagnostics> {
    return this.#forward.diagnose(request, () => this.measureUpdate());
  }

  /** As `ForwardPasses.sample`. */
  sample(request: SampleRequest): Promise<SampleResult> {
    return this.#forward.sample(request);
  }

  /** As `ForwardPasses.probeLoss`. */
  probeLoss(): Promise<number> {
    return this.#forward.probeLoss();
  }

  /** As `trainerPieces`. */
  pieces(): Piece[] {
    return trainerPieces(this);
  }

  /** As `trainerState`. */
  state(): Readonly<Record<string, unknown>> {
    return trainerState(this);
  }

  /** As `loadTrainer`. */
  load(reader: CheckpointReader): Promise<void> {
    return loadTrainer(this, reader);
  }

  /** How far the last step moved the weights; undefined where it did not. All workers call it together. */
  measureUpdate(): UpdateRatios | undefined {
    if (!this.taken || this.takenUpdate) return this.takenUpdate;
    const sums = sharedFloat64(this.#moved.length);
    sums.set(this.#moved);
    makeWhole(sums, this.#topology);
    this.takenUpdate = this.#updateSizes.ratios(sums);
    return this.takenUpdate;
  }

  /** Of the update before a step that the workers have agreed on. */
  #lastUpdate(): LastUpdate | undefined {
    if (!this.taken) return undefined;
    const { overall, groups } = this.takenUpdate ?? this.#updateSizes.ratios(this.#agreement.moved);
    return { learningRate: this.taken.learningRate, overall, groups };
  }

  /** All pieces that this worker optimizes. */
  #pieces(): OptimizedPiece[] {
    return this.spaces.flatMap(({ optimizer }) => optimizer.pieces);
  }

  /** All parameters that this worker holds. */
  #parameters(): PlacedParameter[] {
    return this.spaces.flatMap(({ space }) => space.parameters);
  }

  #corpusShares(request: StepRequest): Pick<StepResult, 'corpusShares'> {
    const firstSample = firstSampleOfRequest(request, this.#config);
    return corpusShares(this.#samplers.train, firstSample, sequencesAt(this.#config, request.step));
  }

  #report(totals: StepTotals): Omit<StepResult, 'step' | 'applied' | 'recheck' | 'corpusShares'> {
    const { expertLoads, largestLogits, ...rest } = totals;
    return {
      ...rest,
      ...(this.#qkClip && {
        largestAttentionLogit: Math.max(...largestLogits),
        clippedHeads: this.#qkClip.countClipped(largestLogits),
      }),
      ...(expertLoads.length > 0 ? { expertLoad: expertLoads.map((loads) => [...loads]) } : {}),
      seconds: this.#watch.seconds(),
      peakMemoryBytes: process.resourceUsage().maxRSS * 1024,
    };
  }
}

function hasNumbers({ loss, gradientNorm }: StepTotals): boolean {
  return Number.isFinite(loss) && Number.isFinite(gradientNorm);
}

function isOutlying({ loss, gradientNorm }: StepTotals, { limits }: StepRequest): boolean {
  return limits !== undefined && !(loss <= limits.loss && gradientNorm <= limits.gradientNorm);
}

function isToBeRechecked(totals: StepTotals, request: StepRequest): boolean {
  const { recheck = 'never' } = request;
  if (recheck !== 'outlying') return recheck === 'always';
  return !hasNumbers(totals) || isOutlying(totals, request);
}

function uniformLoads({ model }: RunConfig): Float32Array[] {
  const { experts } = model;
  if (!experts) return [];
  return expertLayers(model).map(() => new Float32Array(experts.count).fill(1 / experts.count));
}
