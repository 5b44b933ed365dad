/**
 * The gradient of a step: every worker's lanes, summed up over all of them, and the numbers that they agree on. A suspicious
 * one is computed once more by others.
 */

import { computeGradientsAsync, type Floats } from '@sluice/engine';
import { type Decoder, expertLayers, type LossParts, layerModels, mostAttentionHeads } from '@sluice/model';
import { type Agreement, orderedSum } from './agreement.ts';
import { firstSampleOfRequest, type Grain, lanesOf, trainingGrain } from './batches.ts';
import { sequencesAt } from './batchSizes.ts';
import type { RunConfig } from './config.ts';
import type { FlatSpace } from './flatSpace.ts';
import type { GradientSums } from './gradients.ts';
import type { ShardedOptimizer } from './optimizer/sharded.ts';
import type { RecheckResult, StepRequest, StepResult } from './protocol.ts';
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
import type { TokenSource } from './tokenSource.ts';
import type { Topology } from './topology.ts';

/** The parameters of one placement with everything that their training needs. */
export interface TrainedSpace {
  readonly space: FlatSpace;
  readonly gradients: GradientSums;
  readonly optimizer: ShardedOptimizer;
}

/** What the workers have agreed on after a step. */
export interface StepTotals {
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
  readonly contribution: Floats;
}

export interface GradientPassesOptions {
  readonly config: RunConfig;
  readonly topology: Topology;
  readonly source: TokenSource;
  readonly agreement: Agreement;
  readonly spaces: readonly TrainedSpace[];
  readonly model: Decoder;
  /** What the optimizers note of their updates; see `ShardedOptimizer`. */
  readonly moved: Float64Array;
  /** Whether the largest attention logits are wanted. */
  readonly notesLogits: boolean;
}

export class GradientPasses {
  readonly #options: GradientPassesOptions;
  /** For tests and experiments: may change what this worker contributes to a stage, before it is summed up. */
  tamper: ((part: Contribution) => void) | undefined;

  constructor(options: GradientPassesOptions) {
    this.#options = options;
  }

  /**
   * The sums of the gradients over the global batch, in each worker's own slices, and the numbers of the step.
   * @param expertLoads of the step before
   * @param computed is told when this worker's own computation is done
   */
  async first(
    request: StepRequest,
    expertLoads: readonly Float32Array[],
    computed: () => void,
  ): Promise<StepTotals> {
    return this.#compute(request, expertLoads, handOn(this.#options.topology, 0), computed);
  }

  /** @param handing who computes which lanes; the results do not depend on it */
  async #compute(
    request: StepRequest,
    expertLoads: readonly Float32Array[],
    handing: Handing,
    computed: () => void = () => {},
  ): Promise<StepTotals> {
    const { config, topology, source, agreement, spaces } = this.#options;
    const { step } = request;
    const firstSample = firstSampleOfRequest(request, config);
    const { rank, size } = topology;
    const isOwn = handing.position === rank;
    const lanes = lanesOf(config, step, handing.position, size);
    const tokens = sequencesAt(config, step) * source.sequenceLength;
    agreement.begin();
    for (const { gradients } of spaces) gradients.beginStep(handing.sourceShift);
    for (const [index, lane] of lanes.entries()) {
      const isLastLane = index === lanes.length - 1;
      for (const { gradients } of spaces) gradients.beginLane();
      for (const [position, number] of lane.entries()) {
        const grain = trainingGrain(source, config, firstSample, number);
        const isLast = isLastLane && position === lane.length - 1;
        const completeStage = (stage: number) => this.#completeStage(stage, step, isOwn);
        await this.#trainGrain(grain, { tokens, expertLoads, completeStage: isLast && completeStage });
      }
      if (!isLastLane) for (const { gradients } of spaces) gradients.endLane();
    }
    if (!isOwn) this.#handBack(handing);
    computed();
    for (const { gradients } of spaces) gradients.finish();
    return this.#agree(tokens);
  }

  /** Own contributions are reduced as soon as they are complete. */
  #completeStage(stage: number, step: number, reduces: boolean): void {
    for (const { space, gradients } of this.#options.spaces) {
      gradients.completeStage(stage);
      this.tamper?.({ step, space, stage, contribution: gradients.total });
      if (reduces) gradients.reduceStage(stage);
    }
  }

  #handBack(handing: Handing): void {
    const { spaces, topology } = this.#options;
    for (const { space, gradients } of spaces) {
      handBack(gradients.total, { space, topology }, handing);
      gradients.reduce();
    }
  }

  /** Computes a step once more, and where other bits come out a third time, each time by other workers. */
  async recheck(
    request: StepRequest,
    expertLoads: readonly Float32Array[],
    first: StepTotals,
  ): Promise<{ totals: StepTotals; result: RecheckResult }> {
    const { topology } = this.#options;
    const handings = [0, 1, 2].map((times) => handOn(topology, times));
    const evidence = [this.#evidence(request)];
    const again = async (pass: number) => {
      const totals = await this.#compute(request, expertLoads, handings[pass]!);
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
    const { config, agreement, topology } = this.#options;
    const spaces = this.#options.spaces.map(({ space, gradients }) => ({ space, values: gradients.total }));
    const grains = sequencesAt(config, step) / config.batch.grainSequences;
    return evidenceOf(spaces, agreement.crossEntropy.subarray(0, grains), topology.size);
  }

  /**
   * Forward and backward of one grain.
   * @param step.tokens of the global batch
   * @param step.completeStage of the last grain: told of each stage whose gradients are complete
   */
  async #trainGrain(
    grain: Grain,
    step: {
      readonly tokens: number;
      readonly expertLoads: readonly Float32Array[];
      readonly completeStage: false | ((stage: number) => void);
    },
  ): Promise<void> {
    const { config, model, notesLogits } = this.#options;
    const { tokens, expertLoads, completeStage } = step;
    const { sequences, inputs, targets, documents } = grain;
    await computeGradientsAsync(() =>
      model.loss({
        inputs,
        targets,
        sequences,
        documents,
        totalTokens: tokens,
        expertLoads,
        onParts: (parts) => this.#note(grain, parts),
        ...(notesLogits && { observer: { largestLogits: this.#noteLogits } }),
        ...(completeStage && { onStageGradients: completeStage }),
      }),
    );
    if (completeStage) completeStage(config.model.numLayers + 1);
  }

  #note({ index }: Grain, { crossEntropySum, auxiliaryLoss, expertCounts }: LossParts): void {
    const { agreement } = this.#options;
    agreement.crossEntropy[index] = crossEntropySum;
    agreement.auxiliary[index] = auxiliaryLoss;
    expertCounts.forEach((counts, i) => {
      counts.forEach((count, expert) => {
        agreement.expertCounts[i * counts.length + expert]! += count;
      });
    });
  }

  /** @param largest of each head of each sequence of a grain */
  readonly #noteLogits = (layer: number, largest: Float32Array): void => {
    const { config, agreement } = this.#options;
    const { numAttentionHeads: heads } = layerModels(config.model)[layer]!;
    const begin = layer * mostAttentionHeads(config.model);
    const noted = agreement.largestLogits.subarray(begin, begin + heads);
    largest.forEach((logit, i) => {
      noted[i % heads] = Math.max(noted[i % heads]!, logit);
    });
  };

  /** @param tokens of the global batch */
  #agree(tokens: number): StepTotals {
    const { agreement, spaces, topology, moved } = this.#options;
    for (const { optimizer, gradients } of spaces) {
      optimizer.measure(gradients.total, agreement.squares);
    }
    agreement.moved.set(moved);
    agreement.reach(topology);
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
    const { config, agreement } = this.#options;
    const { experts } = config.model;
    if (!experts) return [];
    return expertLayers(config.model).map((_, i) => {
      const counts = agreement.expertCounts.subarray(i * experts.count, (i + 1) * experts.count);
      const routed = orderedSum(counts);
      return Float32Array.from(counts, (count) => count / routed);
    });
  }
}
