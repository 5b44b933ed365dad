/**
 * How many sequences each step has. Where the batch grows, it takes one size after the other. All of this is a function of
 * the configuration and a step's number, so a run is entered at any step without going through those before.
 */

import type { z } from 'zod';
import type { BatchConfig } from './lengthsConfig.ts';

/** The part of a run's configuration that says how large its batches are. */
export interface BatchSettings {
  readonly batch: z.infer<typeof BatchConfig>;
  readonly data: { readonly sequenceLength: number };
}

/** Neighbouring steps whose batches have one size. */
interface Stage {
  readonly firstStep: number;
  /** Sequences of all the steps before. */
  readonly firstSample: number;
  readonly sequences: number;
}

/**
 * Sequences in the global batch of a step.
 * @param step 1 for the first step of the run
 */
export function sequencesAt(config: BatchSettings, step: number): number {
  return stageOf(config, step).sequences;
}

/** Sequences that all the steps before `step` have together. */
export function samplesBefore(config: BatchSettings, step: number): number {
  const { firstStep, firstSample, sequences } = stageOf(config, step);
  return firstSample + (step - firstStep) * sequences;
}

/** The fewest first steps that have at least so many tokens. */
export function stepsOfTokens(config: BatchSettings, tokens: number): number {
  return stepsOfSamples(config, Math.ceil(tokens / config.data.sequenceLength));
}

/** The fewest first steps that have at least so many sequences. */
export function stepsOfSamples(config: BatchSettings, samples: number): number {
  const reached = stagesOf(config).findLast(({ firstSample }) => firstSample < samples);
  if (!reached) return 0;
  return reached.firstStep - 1 + Math.ceil((samples - reached.firstSample) / reached.sequences);
}

/** The sizes that a batch takes before its full one, which is left out; none where it does not grow. */
export function rampSizes({ sequences, ramp }: BatchSettings['batch']): number[] {
  const sizes: number[] = [];
  if (!ramp) return sizes;
  const { from, increment } = ramp;
  for (let size = from; size < sequences; size = increment === undefined ? 2 * size : size + increment) {
    sizes.push(size);
  }
  return sizes;
}

function stageOf(config: BatchSettings, step: number): Stage {
  const stages = stagesOf(config);
  return stages.findLast(({ firstStep }) => firstStep <= step) ?? stages[0]!;
}

/** There are as many as the batch has sizes, however long the run is. */
function stagesOf({ batch, data }: BatchSettings): Stage[] {
  const sizes = rampSizes(batch);
  const stages: Stage[] = [];
  let [firstStep, firstSample] = [1, 0];
  for (const [index, sequences] of sizes.entries()) {
    stages.push({ firstStep, firstSample, sequences });
    // Where the ramp is to be when this size ends: what one size is rounded up by, the next one has less.
    const share = (length: number) => (length * (index + 1)) / sizes.length;
    const { steps = 0, tokens } = batch.ramp!;
    const due =
      tokens === undefined
        ? Math.floor(share(steps)) + 1 - firstStep
        : Math.ceil((share(tokens) / data.sequenceLength - firstSample) / sequences);
    // The first step has the first size, also of a ramp with fewer steps than sizes.
    const taken = Math.max(index === 0 ? 1 : 0, due);
    firstStep += taken;
    firstSample += taken * sequences;
  }
  stages.push({ firstStep, firstSample, sequences: batch.sequences });
  return stages;
}
