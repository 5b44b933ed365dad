/** One worker's share of the training of one model: the step, the validation, and the state that a checkpoint holds. */

import { sharedFloat64 } from '@sluice/collectives';
import { computeGradientsAsync, withReads } from '@sluice/engine';
import { Decoder, initializeParameter, type LossParts, modelParameters } from '@sluice/model';
import { Agreement, makeWhole, orderedSum } from './agreement.ts';
import { type Grain, grainCount, lanesOf, readGrain, type TokenSource, trainingGrain } from './batches.ts';
import type { RunConfig } from './config.ts';
import { ForwardMeter } from './diagnostics/meter.ts';
import { type Diagnostics, summarize, type UpdateRatios } from './diagnostics/summary.ts';
import { mergeTallies, Tally } from './diagnostics/tally.ts';
import { UpdateMeter } from './diagnostics/updates.ts';
import { GroupExpertExchange } from './expertExchange.ts';
import { FlatSpace, type PlacedParameter } from './flatSpace.ts';
import { GradientSums } from './gradients.ts';
import { ShardedAdamW } from './optimizer.ts';
import type { DiagnoseRequest, EvaluateResult, StepRequest, StepResult } from './protocol.ts';
import { StopWatch } from './stopWatch.ts';
import type { Topology } from './topology.ts';

/** The parameters of one placement with everything that their training needs. */
interface TrainedSpace {
  readonly space: FlatSpace;
  readonly gradients: GradientSums;
  readonly optimizer: ShardedAdamW;
}

/** What the workers have agreed on after a step. */
interface StepTotals {
  readonly loss: number;
  readonly auxiliaryLoss: number;
  readonly gradientNorm: number;
  readonly tokens: number;
  readonly expertLoads: Float32Array[];
}

export interface Samplers {
  readonly train: TokenSource;
  readonly validation: TokenSource;
}

export class Trainer {
  readonly #config: RunConfig;
  readonly #topology: Topology;
  readonly #samplers: Samplers;
  readonly #exchange: GroupExpertExchange;
  readonly #lanes: readonly (readonly number[])[];
  readonly #agreement: Agreement;
  readonly #watch = new StopWatch();
  readonly spaces: readonly TrainedSpace[];
  readonly model: Decoder;
  /** For each layer, the share of the routed tokens that each expert got in the last step. */
  expertLoads: Float32Array[];
  /** The last step, unless there was none or its update was not applied. */
  taken: StepRequest | undefined;

  constructor(config: RunConfig, topology: Topology, samplers: Samplers) {
    this.#config = config;
    this.#topology = topology;
    this.#samplers = samplers;
    this.#exchange = new GroupExpertExchange(topology.experts);
    this.#lanes = lanesOf(config, topology.rank, topology.size);
    this.#agreement = new Agreement(config.model, grainCount(config));
    const { experts, expertReplicas, world } = topology;
    const specs = modelParameters(config.model, { rank: experts.rank, size: experts.size });
    const trained = (space: FlatSpace, sources: number) => ({
      space,
      gradients: new GradientSums(space, sources),
      optimizer: new ShardedAdamW(config.optimizer, space, this.#agreement.blocks),
    });
    this.spaces = [
      trained(new FlatSpace('replicated', specs, world), 1),
      ...(config.model.experts
        ? [trained(new FlatSpace('expert', specs, expertReplicas), experts.size)]
        : []),
    ];
    this.model = new Decoder(
      config.model,
      new Map(this.#parameters().map(({ spec, parameter }) => [spec.name, parameter])),
      this.#exchange,
    );
    this.expertLoads = uniformLoads(config);
  }

  /** Gives every parameter its initial values. */
  initialize(): void {
    for (const { spec, parameter } of this.#parameters()) {
      initializeParameter(spec, parameter.values, this.#config.model, this.#config.seed);
    }
  }

  /** One optimizer step over the global batch. All workers call it together and get the same numbers. */
  async trainStep({ step, learningRate }: StepRequest): Promise<StepResult> {
    this.#watch.restart();
    this.#beginStep();
    for (const [index, lane] of this.#lanes.entries()) {
      const isLastLane = index === this.#lanes.length - 1;
      for (const { gradients } of this.spaces) gradients.beginLane();
      for (const [position, grain] of lane.entries()) {
        const completes = isLastLane && position === lane.length - 1;
        await this.#trainGrain(trainingGrain(this.#samplers.train, this.#config, step, grain), completes);
      }
      if (!isLastLane) for (const { gradients } of this.spaces) gradients.endLane();
    }
    this.#watch.stop('compute');

    for (const { gradients } of this.spaces) gradients.finish();
    const totals = this.#agree();
    this.#watch.stop('communicate');

    const applied = Number.isFinite(totals.loss) && Number.isFinite(totals.gradientNorm);
    this.taken = applied ? { step, learningRate } : undefined;
    if (applied) {
      const scale = this.#clipScale(totals.gradientNorm);
      for (const { optimizer, gradients } of this.spaces) {
        optimizer.update(gradients.total, step, learningRate, scale);
      }
      this.#watch.stop('optimize');
      for (const { optimizer } of this.spaces) optimizer.share();
      this.#watch.stop('communicate');
      this.expertLoads = totals.expertLoads;
    }
    return { step, ...this.#report(totals), applied };
  }

  /**
   * Mean cross-entropy of the first validation sequences. All workers call it together; the result does not depend on
   * their number.
   */
  async evaluate(sequences: number): Promise<EvaluateResult> {
    const grains = this.#validationGrains(sequences);
    const sums = sharedFloat64(grains);
    await this.#visitValidation(grains, async (grain, isOwn) => {
      const loss = await this.#forwardLoss(grain);
      if (isOwn) sums[grain.index] = loss;
    });
    makeWhole(sums, this.#topology);
    const tokens = grains * this.#config.batch.grainSequences * this.#samplers.validation.sequenceLength;
    return { loss: orderedSum(sums) / tokens, tokens };
  }

  /**
   * Measurements of the first validation sequences. All workers call it together; the result does not depend on their
   * number, and nothing of what training goes on with is touched.
   */
  async diagnose({ sequences }: DiagnoseRequest): Promise<Diagnostics> {
    const { model, batch } = this.#config;
    const grains = this.#validationGrains(sequences);
    const length = Tally.length(model);
    const all = sharedFloat64(grains * length);
    const tallyOf = (grain: number) => new Tally(model, all.subarray(grain * length, (grain + 1) * length));
    await this.#visitValidation(grains, (grain, isOwn) => {
      const meter = new ForwardMeter(model, isOwn ? tallyOf(grain.index) : undefined);
      return withReads(() => this.model.observe(grain, meter));
    });
    makeWhole(all, this.#topology);
    const tally = mergeTallies(
      model,
      Array.from({ length: grains }, (_, grain) => tallyOf(grain)),
    );
    return summarize(
      model,
      tally,
      {
        sequences: grains * batch.grainSequences,
        sequenceLength: this.#samplers.validation.sequenceLength,
      },
      this.#measureUpdates(),
    );
  }

  /** Mean cross-entropy of the first validation grain, computed by every worker for itself. */
  async probeLoss(): Promise<number> {
    const grain = this.#validationGrain(0);
    return (await this.#forwardLoss(grain)) / grain.inputs.length;
  }

  /** All parameters that this worker holds. */
  #parameters(): PlacedParameter[] {
    return this.spaces.flatMap(({ space }) => space.parameters);
  }

  /** How far the last step moved the weights; undefined where it did not. */
  #measureUpdates(): UpdateRatios | undefined {
    if (!this.taken) return undefined;
    const meter = new UpdateMeter(this.#config.model, this.#config.optimizer, this.taken);
    for (const { optimizer } of this.spaces) for (const piece of optimizer.pieces) meter.add(piece);
    makeWhole(meter.sums, this.#topology);
    return meter.ratios();
  }

  #beginStep(): void {
    this.#agreement.begin();
    this.#exchange.secondsWaited = 0;
    for (const { gradients } of this.spaces) gradients.beginStep();
  }

  /** Forward and backward of one grain. In the last one, stages are reduced as soon as they are complete. */
  async #trainGrain(grain: Grain, completes: boolean): Promise<void> {
    const { sequences, inputs, targets } = grain;
    const totalTokens = this.#config.batch.sequences * this.#samplers.train.sequenceLength;
    const completeStage = (stage: number) => {
      for (const { gradients } of this.spaces) gradients.completeStage(stage);
    };
    await computeGradientsAsync(() =>
      this.model.loss({
        inputs,
        targets,
        sequences,
        totalTokens,
        expertLoads: this.expertLoads,
        onParts: (parts) => this.#note(grain, parts),
        ...(completes ? { onStageGradients: completeStage } : {}),
      }),
    );
    if (completes) completeStage(this.#config.model.numLayers + 1);
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

  #agree(): StepTotals {
    const agreement = this.#agreement;
    for (const { optimizer, gradients } of this.spaces) {
      optimizer.measure(gradients.total, agreement.squares);
    }
    agreement.reach(this.#topology);
    const tokens = this.#config.batch.sequences * this.#samplers.train.sequenceLength;
    return {
      loss: orderedSum(agreement.crossEntropy) / tokens,
      auxiliaryLoss: orderedSum(agreement.auxiliary),
      gradientNorm: Math.sqrt(orderedSum(agreement.squares)),
      tokens,
      expertLoads: this.#agreedLoads(),
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

  #clipScale(gradientNorm: number): number {
    const { clipNorm } = this.#config.optimizer;
    return clipNorm > 0 && gradientNorm > clipNorm ? clipNorm / (gradientNorm + 1e-6) : 1;
  }

  #report(totals: StepTotals): Omit<StepResult, 'step' | 'applied'> {
    const { expertLoads, ...rest } = totals;
    const exchanged = this.#exchange.secondsWaited;
    const watch = this.#watch;
    return {
      ...rest,
      ...(expertLoads.length > 0 ? { expertLoad: expertLoads.map((loads) => [...loads]) } : {}),
      seconds: {
        total: watch.total(),
        compute: watch.seconds('compute') - exchanged,
        communicate: watch.seconds('communicate') + exchanged,
        optimize: watch.seconds('optimize'),
      },
      peakMemoryBytes: process.resourceUsage().maxRSS * 1024,
    };
  }

  /** Whole grains of the first validation sequences. */
  #validationGrains(sequences: number): number {
    const most = Math.min(sequences, this.#samplers.validation.numSequences);
    return Math.max(1, Math.floor(most / this.#config.batch.grainSequences));
  }

  /**
   * Shares validation grains out among the workers. Workers that share experts must compute in step, so those without a
   * grain of their own repeat the last one.
   */
  async #visitValidation(
    grains: number,
    visit: (grain: Grain, isOwn: boolean) => Promise<void>,
  ): Promise<void> {
    const { rank, size } = this.#topology;
    const rounds = Math.ceil(grains / size);
    for (let round = 0; round < rounds; round++) {
      const index = rank * rounds + round;
      await visit(this.#validationGrain(Math.min(index, grains - 1)), index < grains);
    }
  }

  #validationGrain(index: number): Grain {
    const { grainSequences } = this.#config.batch;
    return readGrain(this.#samplers.validation, index, index * grainSequences, grainSequences);
  }

  /** Cross-entropy summed over the grain's tokens, without a backward pass. */
  async #forwardLoss({ inputs, targets, sequences }: Grain): Promise<number> {
    let sum = Number.NaN;
    const request = {
      inputs,
      targets,
      sequences,
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

function uniformLoads({ model }: RunConfig): Float32Array[] {
  const { experts, numLayers } = model;
  if (!experts) return [];
  return Array.from({ length: numLayers }, () => new Float32Array(experts.count).fill(1 / experts.count));
}
