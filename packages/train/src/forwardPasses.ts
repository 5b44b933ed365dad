/** Passes without a gradient: validation, measurements, the loss that a checkpoint proves itself by. */

import { sharedFloat64 } from '@sluice/collectives';
import { invariant } from '@sluice/core';
import { withReads } from '@sluice/engine';
import type { Decoder, LossParts } from '@sluice/model';
import { makeWhole } from './agreement.ts';
import { type Grain, readGrain } from './batches.ts';
import type { RunConfig } from './config.ts';
import { ForwardMeter } from './diagnostics/meter.ts';
import { type Diagnostics, summarize } from './diagnostics/summary.ts';
import { mergeTallies, Tally } from './diagnostics/tally.ts';
import {
  type ForwardSource,
  forwardGrains,
  type GrainPlace,
  meanLosses,
  sequenceLengthOf,
  sequencesOf,
} from './forwardGrains.ts';
import type { DiagnoseRequest, EvaluateResult, SampleRequest, SampleResult } from './protocol.ts';
import { writeSamples } from './samples.ts';
import type { TokenSource } from './tokenSource.ts';
import type { Topology } from './topology.ts';
import type { UpdateRatios } from './updateSizes.ts';

export interface Samplers {
  readonly train: TokenSource;
  /** Left out where nothing is held out. */
  readonly validation?: ForwardSource | undefined;
}

export class ForwardPasses {
  readonly #config: RunConfig;
  readonly #topology: Topology;
  readonly #samplers: Samplers;
  readonly #model: Decoder;
  /** Expert loads of the last step. */
  readonly #loads: () => readonly Float32Array[];

  constructor(
    config: RunConfig,
    topology: Topology,
    samplers: Samplers,
    model: Decoder,
    loads: () => readonly Float32Array[],
  ) {
    this.#config = config;
    this.#topology = topology;
    this.#samplers = samplers;
    this.#model = model;
    this.#loads = loads;
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
   * @param update measures how far the last step moved the weights
   */
  async diagnose(
    { sequences }: DiagnoseRequest,
    update: () => UpdateRatios | undefined,
  ): Promise<Diagnostics> {
    const { model } = this.#config;
    const grains = this.#forwardGrains(sequences);
    const length = Tally.length(model);
    const all = sharedFloat64(grains.length * length);
    const tallyOf = (grain: number) => new Tally(model, all.subarray(grain * length, (grain + 1) * length));
    await this.#visit(grains, (grain, isOwn) => {
      const meter = new ForwardMeter(model, isOwn ? tallyOf(grain.index) : undefined);
      return withReads(() => this.#model.observe(grain, meter));
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
      update(),
    );
  }

  /** As `writeSamples`. */
  sample(request: SampleRequest): Promise<SampleResult> {
    this.#awaitValues();
    const { seed, data } = this.#config;
    const sampled = { model: this.#model, topology: this.#topology, seed };
    return writeSamples({ ...sampled, sequenceLength: data.sequenceLength }, request);
  }

  /** Mean cross-entropy of the first grain that `evaluate` scores, computed by every worker for itself. */
  async probeLoss(): Promise<number> {
    const [first] = this.#forwardGrains(this.#config.batch.grainSequences);
    const grain = this.#readForward(first!);
    return (await this.#forwardLoss(grain)) / grain.inputs.length;
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
    this.#awaitValues();
    const { rank, size } = this.#topology;
    const rounds = Math.ceil(grains.length / size);
    for (let round = 0; round < rounds; round++) {
      const index = rank * rounds + round;
      const place = grains[Math.min(index, grains.length - 1)]!;
      await visit(this.#readForward(place), index < grains.length);
    }
  }

  /**
   * A worker may have no pass to make, and need none of the values that are on their way; others need what it sends. A GPU sends it
   * meanwhile, but an emulated one does nothing that nobody waits for.
   */
  #awaitValues(): void {
    this.#model.awaitValues();
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
      expertLoads: this.#loads(),
      onParts: ({ crossEntropySum }: LossParts) => {
        sum = crossEntropySum;
      },
    };
    await withReads(() => this.#model.loss(request).dispose());
    return sum;
  }
}
