/** One worker's share of the training of one model: the step, the validation, and the state that a checkpoint holds. */

import { sharedFloat64 } from '@sluice/collectives';
import { invariant } from '@sluice/core';
import { computeGradientsAsync, withReads } from '@sluice/engine';
import { Decoder, initializeParameter, type LossParts, modelParameters } from '@sluice/model';
import { Agreement, makeWhole, orderedSum } from './agreement.ts';
import { balanceChoice } from './balanceBias.ts';
import {
  corpusShares,
  firstSampleOfRequest,
  type Grain,
  grainCount,
  lanesOf,
  readGrain,
  type TokenSource,
  trainingGrain,
} from './batches.ts';
import { sequencesAt } from './batchSizes.ts';
import type { RunConfig } from './config.ts';
import { ForwardMeter } from './diagnostics/meter.ts';
import { type Diagnostics, summarize, type UpdateRatios } from './diagnostics/summary.ts';
import { mergeTallies, Tally } from './diagnostics/tally.ts';
import { UpdateMeter } from './diagnostics/updates.ts';
import { GroupExpertExchange } from './expertExchange.ts';
import { FlatSpace, type PlacedParameter } from './flatSpace.ts';
import {
  type ForwardSource,
  forwardGrains,
  type GrainPlace,
  meanLosses,
  sequenceLengthOf,
  sequencesOf,
} from './forwardGrains.ts';
import { GradientSums } from './gradients.ts';
import { Clipping } from './optimizer/clipping.ts';
import type { OptimizedPiece } from './optimizer/pieces.ts';
import { QkClip } from './optimizer/qkClip.ts';
import { wholeMatrices } from './optimizer/settings.ts';
import { ShardedOptimizer } from './optimizer/sharded.ts';
import type {
  DiagnoseRequest,
  EvaluateResult,
  RecheckResult,
  StepRequest,
  StepResult,
  TakenStep,
} from './protocol.ts';
import {
  blame,
  compare,
  type Evidence,
  evidenceOf,
  type Handing,
  handBack,
  handOn,
  isSame,
} from './recheck.ts';
import { StopWatch } from './stopWatch.ts';
import type { Topology } from './topology.ts';

/** The parameters of one placement with everything that their training needs. */
interface TrainedSpace {
  readonly space: FlatSpace;
  readonly gradients: GradientSums;
  readonly optimizer: ShardedOptimizer;
}

/** What the workers have agreed on after a step. */
interface StepTotals {
  readonly loss: number;
  readonly auxiliaryLoss: number;
  readonly gradientNorm: number;
  readonly groupNorms: StepResult['groupNorms'];
  readonly tokens: number;
  readonly expertLoads: Float32Array[];
  /** For each layer and head; empty without QK-clip. */
  readonly largestLogits: Float64Array;
}

/** What a worker contributes to a stage of a space. */
export interface Contribution {
  readonly step: number;
  readonly space: FlatSpace;
  readonly stage: number;
  /** Of all stages; those to come are not complete. */
  readonly contribution: Float32Array;
}

export interface Samplers {
  readonly train: TokenSource;
  /** Left out where nothing is held out. */
  readonly validation?: ForwardSource | undefined;
}

export class Trainer {
  readonly #config: RunConfig;
  readonly #topology: Topology;
  readonly #samplers: Samplers;
  readonly #agreement: Agreement;
  readonly #watch: StopWatch;
  readonly #qkClip: QkClip | undefined;
  readonly spaces: readonly TrainedSpace[];
  readonly clipping: Clipping;
  readonly model: Decoder;
  /** For each layer, the share of the routed tokens that each expert got in the last step. */
  expertLoads: Float32Array[];
  /** The last step, unless there was none or its update was not applied. */
  taken: TakenStep | undefined;
  /** Steps that the moments were of when the run began; they count where AdamW corrects the bias of its moments. */
  keptSteps = 0;
  /** How far that step moved the weights, where it was taken before this trainer was loaded and its moments do not tell. */
  loadedUpdate: UpdateRatios | undefined;
  /** For tests and experiments: may change what this worker contributes to a stage, before it is summed up. */
  tamper: ((part: Contribution) => void) | undefined;

  constructor(config: RunConfig, topology: Topology, samplers: Samplers) {
    this.#config = config;
    this.#topology = topology;
    this.#samplers = samplers;
    this.#watch = new StopWatch(topology.blocked);
    const { qkClip } = config.optimizer;
    this.#qkClip = qkClip && new QkClip(qkClip.threshold, config.model);
    this.#agreement = new Agreement(config.model, grainCount(config), topology, qkClip !== undefined);
    const { experts, expertReplicas, world } = topology;
    const specs = modelParameters(config.model, { rank: experts.rank, size: experts.size });
    const trained = (space: FlatSpace, sources: number) => ({
      space,
      gradients: new GradientSums(space, sources),
      optimizer: new ShardedOptimizer(config.optimizer, space, this.#agreement.blocks),
    });
    this.clipping = new Clipping(config.optimizer);
    const whole = wholeMatrices(config.optimizer);
    this.spaces = [
      trained(new FlatSpace('replicated', specs, world, whole), 1),
      ...(config.model.experts
        ? [trained(new FlatSpace('expert', specs, expertReplicas, whole), experts.size)]
        : []),
    ];
    this.model = new Decoder(
      config.model,
      new Map(this.#parameters().map(({ spec, parameter }) => [spec.name, parameter])),
      new GroupExpertExchange(topology.experts),
    );
    this.expertLoads = uniformLoads(config);
  }

  /**
   * Whether the last update's size follows from weights and moments. Muon's moments do not tell Nesterov's direction, and
   * QK-clip scales the weights afterwards.
   */
  get momentsTellUpdate(): boolean {
    const { kind, qkClip } = this.#config.optimizer;
    return kind === 'adamw' && qkClip === undefined;
  }

  /** Gives every parameter its initial values. Moments of a new trainer are zero. */
  initialize(): void {
    this.expertLoads = uniformLoads(this.#config);
    this.taken = undefined;
    this.keptSteps = 0;
    this.loadedUpdate = undefined;
    this.clipping.restore(undefined);
    for (const { spec, parameter } of this.#parameters()) {
      initializeParameter(spec, parameter.values, this.#config.model, this.#config.seed);
    }
  }

  /** One optimizer step over the global batch. All workers call it together and get the same numbers. */
  async trainStep(request: StepRequest): Promise<StepResult> {
    const { step, learningRate } = request;
    this.#watch.restart();
    const first = await this.#computeGradients(request, handOn(this.#topology, 0));
    const rechecked = isToBeRechecked(first, request) ? await this.#recheck(request, first) : undefined;
    const totals = rechecked?.totals ?? first;

    const isTrusted = rechecked?.result.isSound ?? true;
    const applied = isTrusted && hasNumbers(totals) && !(request.skipOutlying && isOutlying(totals, request));
    this.taken = applied ? { step, learningRate } : undefined;
    this.loadedUpdate = undefined;
    if (applied) {
      const gradientScales = this.clipping.scales(totals);
      for (const { optimizer, gradients } of this.spaces) {
        optimizer.update(gradients.total, { step: step + this.keptSteps, learningRate, gradientScales });
      }
      this.#qkClip?.apply(this.#pieces(), totals.largestLogits);
      for (const { optimizer } of this.spaces) optimizer.share();
      this.expertLoads = totals.expertLoads;
      balanceChoice(this.#config.model, this.#parameters(), this.#agreement.expertCounts);
    } else this.#qkClip?.skip();
    this.#watch.optimized();
    return {
      ...{ step, ...this.#report(totals), applied },
      ...this.#corpusShares(request),
      ...(rechecked && { recheck: rechecked.result }),
    };
  }

  /**
   * Mean cross-entropy of the first validation sequences, each of which is scored once. All workers call it together; the
   * result does not depend on their number.
   */
  async evaluate(sequences: number): Promise<EvaluateResult> {
    invariant(this.#samplers.validation, 'a corpus that holds nothing out is to be validated on');
    const grains = this.#forwardGrains(sequences);
    const sums = sharedFloat64(grains.length);
    await this.#visit(grains, async (grain, isOwn) => {
      const loss = await this.#forwardLoss(grain);
      if (isOwn) sums[grain.index] = loss;
    });
    makeWhole(sums, this.#topology);
    return meanLosses(this.#samplers.validation, grains, sums);
  }

  /**
   * Measurements of the first validation sequences, or training ones where nothing is held out. All workers call it
   * together; the result does not depend on their number, and nothing of what training goes on with is touched.
   */
  async diagnose({ sequences }: DiagnoseRequest): Promise<Diagnostics> {
    const { model } = this.#config;
    const grains = this.#forwardGrains(sequences);
    const length = Tally.length(model);
    const all = sharedFloat64(grains.length * length);
    const tallyOf = (grain: number) => new Tally(model, all.subarray(grain * length, (grain + 1) * length));
    await this.#visit(grains, (grain, isOwn) => {
      const meter = new ForwardMeter(model, isOwn ? tallyOf(grain.index) : undefined);
      return withReads(() => this.model.observe(grain, meter));
    });
    makeWhole(all, this.#topology);
    const tally = mergeTallies(
      model,
      grains.map(({ index }) => tallyOf(index)),
    );
    return summarize(
      model,
      tally,
      {
        sequences: sequencesOf(grains),
        sequenceLength: sequenceLengthOf(this.#forwardSource),
        ...(this.#samplers.validation ? {} : { split: 'train' }),
      },
      this.measureUpdate(),
    );
  }

  /** Mean cross-entropy of the first grain that `evaluate` scores, computed by every worker for itself. */
  async probeLoss(): Promise<number> {
    const [first] = this.#forwardGrains(this.#config.batch.grainSequences);
    const grain = this.#readForward(first!);
    return (await this.#forwardLoss(grain)) / grain.inputs.length;
  }

  /** How far the last step moved the weights; undefined where it did not. All workers call it together. */
  measureUpdate(): UpdateRatios | undefined {
    if (!this.taken || this.loadedUpdate) return this.loadedUpdate;
    const { step, learningRate } = this.taken;
    const taken = { step: step + this.keptSteps, learningRate };
    const meter = new UpdateMeter(this.#config.model, this.#config.optimizer, taken);
    for (const piece of this.#pieces()) meter.add(this.#qkClip?.unclipped(piece) ?? piece);
    makeWhole(meter.sums, this.#topology);
    return meter.ratios();
  }

  /** All pieces that this worker optimizes. */
  #pieces(): OptimizedPiece[] {
    return this.spaces.flatMap(({ optimizer }) => optimizer.pieces);
  }

  /** All parameters that this worker holds. */
  #parameters(): PlacedParameter[] {
    return this.spaces.flatMap(({ space }) => space.parameters);
  }

  /**
   * The sums of the gradients over the global batch, in each worker's own slices, and the numbers of the step.
   * @param handing who computes which lanes; of it the results do not depend
   */
  async #computeGradients(request: StepRequest, handing: Handing): Promise<StepTotals> {
    const { step } = request;
    const firstSample = firstSampleOfRequest(request, this.#config);
    const { rank, size } = this.#topology;
    const isOwn = handing.position === rank;
    const lanes = lanesOf(this.#config, step, handing.position, size);
    const tokens = sequencesAt(this.#config, step) * this.#samplers.train.sequenceLength;
    this.#agreement.begin();
    for (const { gradients } of this.spaces) gradients.beginStep(handing.sourceShift);
    for (const [index, lane] of lanes.entries()) {
      const isLastLane = index === lanes.length - 1;
      for (const { gradients } of this.spaces) gradients.beginLane();
      for (const [position, number] of lane.entries()) {
        const grain = trainingGrain(this.#samplers.train, this.#config, firstSample, number);
        const isLast = isLastLane && position === lane.length - 1;
        const completeStage = (stage: number) => this.#completeStage(stage, step, isOwn);
        await this.#trainGrain(grain, tokens, isLast && completeStage);
      }
      if (!isLastLane) for (const { gradients } of this.spaces) gradients.endLane();
    }
    if (!isOwn) this.#handBack(handing);
    this.#watch.computed();
    for (const { gradients } of this.spaces) gradients.finish();
    return this.#agree(tokens);
  }

  #corpusShares(request: StepRequest): Pick<StepResult, 'corpusShares'> {
    const firstSample = firstSampleOfRequest(request, this.#config);
    return corpusShares(this.#samplers.train, firstSample, sequencesAt(this.#config, request.step));
  }

  /** Own contributions are reduced as soon as they are complete. */
  #completeStage(stage: number, step: number, reduces: boolean): void {
    for (const { space, gradients } of this.spaces) {
      gradients.completeStage(stage);
      this.tamper?.({ step, space, stage, contribution: gradients.total });
      if (reduces) gradients.reduceStage(stage);
    }
  }

  #handBack(handing: Handing): void {
    for (const { space, gradients } of this.spaces) {
      handBack(gradients.total, { space, topology: this.#topology }, handing);
      gradients.reduce();
    }
  }

  /** Computes a step once more, and where other bits come out a third time, each time by other workers. */
  async #recheck(
    request: StepRequest,
    first: StepTotals,
  ): Promise<{ totals: StepTotals; result: RecheckResult }> {
    const topology = this.#topology;
    const handings = [0, 1, 2].map((times) => handOn(topology, times));
    const evidence = [this.#evidence(request)];
    const again = async (pass: number) => {
      const totals = await this.#computeGradients(request, handings[pass]!);
      evidence.push(this.#evidence(request));
      return totals;
    };
    const between = (a: number, b: number) => compare(evidence[a]!, evidence[b]!, topology);

    const { loss, gradientNorm } = first;
    const second = await again(1);
    const firstSecond = between(0, 1);
    if (isSame(firstSecond)) {
      const result = { identical: true, isSound: true, suspects: [], first: { loss, gradientNorm } };
      return { totals: second, result };
    }
    const totals = await again(2);
    const { suspects, isSound } = blame({
      performers: handings.map(({ performer }) => performer),
      ...{ firstSecond, firstThird: between(0, 2), secondThird: between(1, 2) },
    });
    return { totals, result: { identical: false, isSound, suspects, first: { loss, gradientNorm } } };
  }

  #evidence({ step }: StepRequest): Evidence {
    const spaces = this.spaces.map(({ space, gradients }) => ({ space, values: gradients.total }));
    const grains = sequencesAt(this.#config, step) / this.#config.batch.grainSequences;
    return evidenceOf(spaces, this.#agreement.crossEntropy.subarray(0, grains), this.#topology.size);
  }

  /**
   * Forward and backward of one grain.
   * @param totalTokens of the global batch
   * @param completeStage of the last one: told of each stage whose gradients are complete
   */
  async #trainGrain(
    grain: Grain,
    totalTokens: number,
    completeStage: false | ((stage: number) => void),
  ): Promise<void> {
    const { sequences, inputs, targets, documents } = grain;
    await computeGradientsAsync(() =>
      this.model.loss({
        inputs,
        targets,
        sequences,
        documents,
        totalTokens,
        expertLoads: this.expertLoads,
        onParts: (parts) => this.#note(grain, parts),
        ...(this.#qkClip && { observer: { largestLogits: this.#noteLogits } }),
        ...(completeStage && { onStageGradients: completeStage }),
      }),
    );
    if (completeStage) completeStage(this.#config.model.numLayers + 1);
  }

  #note({ index }: Grain, { crossEntropySum, auxiliaryLoss, expertCounts }: LossParts): void {
    this.#agreement.crossEntropy[index] = crossEntropySum;
    this.#agreement.auxiliary[index] = auxiliaryLoss;
    expertCounts.forEach((counts, layer) => {
      counts.forEach((count, expert) => {
        this.#agreement.expertCounts[layer * counts.length + expert]! += count;
      });
    });
  }

  /** @param largest of each head of each sequence of a grain */
  readonly #noteLogits = (layer: number, largest: Float32Array): void => {
    const { numAttentionHeads: heads } = this.#config.model;
    const noted = this.#agreement.largestLogits.subarray(layer * heads, (layer + 1) * heads);
    largest.forEach((logit, i) => {
      noted[i % heads] = Math.max(noted[i % heads]!, logit);
    });
  };

  /** @param tokens of the global batch */
  #agree(tokens: number): StepTotals {
    const agreement = this.#agreement;
    for (const { optimizer, gradients } of this.spaces) {
      optimizer.measure(gradients.total, agreement.squares);
    }
    agreement.reach(this.#topology);
    return {
      loss: orderedSum(agreement.crossEntropy) / tokens,
      auxiliaryLoss: orderedSum(agreement.auxiliary),
      gradientNorm: Math.sqrt(orderedSum(agreement.squares)),
      groupNorms: agreement.groupNorms(),
      tokens,
      expertLoads: this.#agreedLoads(),
      largestLogits: agreement.agreedLogits(),
    };
  }

  #agreedLoads(): Float32Array[] {
    const { experts } = this.#config.model;
    if (!experts) return [];
    return this.expertLoads.map((_, layer) => {
      const counts = this.#agreement.expertCounts.subarray(
        layer * experts.count,
        (layer + 1) * experts.count,
      );
      const routed = orderedSum(counts);
      return Float32Array.from(counts, (count) => count / routed);
    });
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

  /** What passes without a gradient read. */
  get #forwardSource(): ForwardSource {
    return this.#samplers.validation ?? this.#samplers.train;
  }

  #forwardGrains(sequences: number): GrainPlace[] {
    return forwardGrains(this.#forwardSource, sequences, this.#config.batch.grainSequences);
  }

  /**
   * Shares such grains out among the workers. Workers that share experts must compute in step, so those without a grain of
   * their own repeat the last one.
   */
  async #visit(
    grains: readonly GrainPlace[],
    visit: (grain: Grain, isOwn: boolean) => Promise<void>,
  ): Promise<void> {
    const { rank, size } = this.#topology;
    const rounds = Math.ceil(grains.length / size);
    for (let round = 0; round < rounds; round++) {
      const index = rank * rounds + round;
      const place = grains[Math.min(index, grains.length - 1)]!;
      await visit(this.#readForward(place), index < grains.length);
    }
  }

  #readForward({ source, index, first, sequences }: GrainPlace): Grain {
    return readGrain(source, index, first, sequences);
  }

  /** Cross-entropy summed over the grain's tokens, without a backward pass. */
  async #forwardLoss({ inputs, targets, sequences, documents }: Grain): Promise<number> {
    let sum = Number.NaN;
    const request = {
      inputs,
      targets,
      sequences,
      documents,
      totalTokens: inputs.length,
      expertLoads: this.expertLoads,
      onParts: ({ crossEntropySum }: LossParts) => {
        sum = crossEntropySum;
      },
    };
    await withReads(() => this.model.loss(request).dispose());
    return sum;
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
  const { experts, numLayers } = model;
  if (!experts) return [];
  return Array.from({ length: numLayers }, () => new Float32Array(experts.count).fill(1 / experts.count));
}
