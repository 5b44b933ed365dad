/**
 * Faults on purpose, for tests and experiments on how spikes are handled: garbage in some batches, a learning rate that is too
 * high for some steps, a bit that flips in one worker's gradient. Set by the variable SLUICE_POISON, as JSON.
 */

import { BLOCK_ELEMENTS, parseConfig, randomKey, randomPair, SluiceError } from '@sluice/core';
import { changeOnHost } from '@sluice/engine';
import { z } from 'zod';
import { type BatchSettings, stepsOfSamples } from './batchSizes.ts';
import type { RunConfig } from './config.ts';
import type { Contribution } from './gradientPasses.ts';
import type { TokenSource } from './tokenSource.ts';

const Steps = z
  .tuple([z.int().min(1), z.int().min(1)])
  .describe('First and last step; for data, as the steps are without any rollback.');

export const Poison = z.strictObject({
  garbage: z.strictObject({ steps: Steps }).optional().describe('Random tokens in place of the batches.'),
  rate: z
    .strictObject({ steps: Steps, factor: z.number().positive() })
    .optional()
    .describe('The scheduled learning rate times a factor.'),
  flip: z
    .strictObject({
      step: z.int().min(1),
      rank: z.int().min(0),
      bit: z.int().min(0).max(31).default(30),
      /** How many times the rank computes the step wrongly; more than once is a machine that is broken for good. */
      times: z.int().min(1).default(1),
    })
    .optional()
    .describe(
      'A bit of a number that a worker contributes to the gradient; 30 is the highest of the exponent.',
    ),
});

export type Poison = z.infer<typeof Poison>;

export const POISON_VARIABLE = 'SLUICE_POISON';

/** @throws SLUICE_E_CONFIG_INVALID, SLUICE_E_USAGE */
export function poisonFrom(text: string | undefined): Poison {
  if (!text) return {};
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new SluiceError(
      'SLUICE_E_USAGE',
      `${POISON_VARIABLE} is ${JSON.stringify(text)}, which is no JSON.`,
    );
  }
  return parseConfig(value, Poison, POISON_VARIABLE);
}

/** What of a poison cannot come, as a sentence; undefined where all of it can. */
export function vainPoison({ flip }: Poison, workers: number): string | undefined {
  if (!flip || flip.rank < workers) return undefined;
  return `${POISON_VARIABLE} has a bit flip in rank ${flip.rank}, which none of the ${workers} worker(s) has: ranks are counted from 0.`;
}

/** Samples as they are, but for those of poisoned batches. */
export function poisonedSource(
  source: TokenSource,
  { garbage }: Poison,
  config: BatchSettings & Pick<RunConfig, 'model' | 'seed'>,
): TokenSource {
  if (!garbage) return source;
  const [first, last] = garbage.steps;
  const { model, seed } = config;
  return {
    numSequences: source.numSequences,
    sequenceLength: source.sequenceLength,
    documentMarks: source.documentMarks,
    ...(source.corpora && {
      corpora: source.corpora,
      corpusOf: (sample: number) => source.corpusOf!(sample),
    }),
    read(sample, target) {
      const step = stepsOfSamples(config, sample + 1);
      if (step < first || step > last) return source.read(sample, target);
      const key = randomKey(seed, 'garbage', sample);
      for (let i = 0; i < target.length; i++) target[i] = randomPair(key, i)[0] % model.vocabularySize;
    },
  };
}

/** Factor of the learning rate at a step. */
export function poisonedRate({ rate }: Poison, step: number): number {
  return rate && step >= rate.steps[0] && step <= rate.steps[1] ? rate.factor : 1;
}

/** Flips the bit in the middle of the first tensor of a stage, for as many passes as it is to. */
export function flipBy({ flip }: Poison, rank: number): ((part: Contribution) => void) | undefined {
  if (flip?.rank !== rank) return undefined;
  let left = flip.times;
  return ({ step, space, stage, contribution }) => {
    if (step !== flip.step || stage !== space.stages[1] || left === 0) return;
    left--;
    const { begin, end } = space.stage(stage)!;
    const place = begin + Math.min(BLOCK_ELEMENTS / 2, (end - begin) >> 1);
    changeOnHost(contribution.subarray(place, place + 1), ({ buffer, byteOffset }) => {
      new Uint32Array(buffer, byteOffset, 1)[0]! ^= 1 << flip.bit;
    });
  };
}
