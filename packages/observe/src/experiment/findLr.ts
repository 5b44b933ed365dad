/**
 * What `sluice find-lr` found, as it is kept in `find-lr.json`: for each variant and seed the learning rates that were tried, and
 * between which two of them training stops being stable. As in `results.json`, nothing depends on clocks, paths or the machine.
 */

import { elementary } from '@sluice/core';
import { z } from 'zod';
import { mean, spread } from './statistics.ts';

export const FIND_LR_FORMAT = 1;

const hash = z.string().regex(/^[0-9a-f]{64}$/);

/** One run of the search: a variant with one seed and one learning rate. */
export const FindLrProbe = z.strictObject({
  /** Peak of the schedule. */
  learningRate: z.number().positive(),
  /**
   * `stable` and `unstable` as the search defines them; an unstable run may have reached its last step. `failed`: something else
   * ended it, which says nothing about the rate.
   */
  outcome: z.enum(['stable', 'unstable', 'failed']),
  /** Last step that was taken. */
  step: z.int().nonnegative(),
  /** On the held-out split after the last step, nats a token; null where it was not reached. */
  validationLoss: z.number().nullable(),
  /** Mean loss of the last twentieth of the steps, nats a token. */
  trainLoss: z.number().nullable(),
  /** Episodes of the spike detector for each thousand steps taken. */
  spikesPerThousand: z.number().nonnegative(),
  /** Why it is not stable. */
  reason: z.string().nullable(),
  /** Of the resolved configuration, without what changes no bit. */
  configHash: hash,
  /** Content hash of the weights; null where there are none. */
  weightsHash: hash.nullable(),
  /** As of a run of an experiment. */
  arithmetic: z.string().nullable().default(null),
});

export type FindLrProbe = z.infer<typeof FindLrProbe>;

/** The search for one variant with one seed. */
export const FindLrSeed = z.strictObject({
  seed: z.int(),
  /** In ascending order of the learning rate. */
  probes: z.array(FindLrProbe),
  /** Largest rate below which every rate that was tried is stable, itself as well; null where the smallest one is not. */
  largestStable: z.number().positive().nullable(),
  /** Smallest rate that was seen unstable; null where none was: the largest stable rate is then only a lower bound. */
  smallestUnstable: z.number().positive().nullable(),
});

export type FindLrSeed = z.infer<typeof FindLrSeed>;

export const FindLrVariant = z.strictObject({
  /** Name of the experiment's row. */
  name: z.string(),
  method: z.string(),
  parameters: z.strictObject({ total: z.int(), active: z.int(), added: z.int() }),
  seeds: z.array(FindLrSeed),
  summary: z.strictObject({
    /** Geometric mean of `largestStable` over the seeds that have one; null where none has. */
    largestStable: z.number().positive().nullable(),
    /**
     * Geometric standard deviation over the same seeds: a factor, 1 where all agree; null with fewer than two. The rates tried
     * are a grid, so it cannot tell less than the grid's own factor.
     */
    spread: z.number().min(1).nullable(),
    /** Seeds that have a `largestStable`, of all that were searched. */
    seeds: z.int().nonnegative(),
  }),
});

export type FindLrVariant = z.infer<typeof FindLrVariant>;

export const FindLrResults = z.strictObject({
  format: z.literal(FIND_LR_FORMAT),
  /** Name of the experiment's file without its ending. */
  name: z.string(),
  title: z.string(),
  source: z.string().nullable(),
  scale: z.string(),
  version: z.string(),
  /** Of all variants, each once, in their order. */
  arithmetic: z.string(),
  /** Steps of each run that reaches its end, and tokens of a step. */
  steps: z.int().positive(),
  tokensPerStep: z.int().positive(),
  /** When a run counts as stable, in words. */
  criterion: z.string(),
  /** Factor between neighbouring rates of the finest grid. */
  resolution: z.number().gt(1),
  /** Loss of a unigram model on the held-out split, nats a token. */
  unigramLoss: z.number().nullable(),
  variants: z.array(FindLrVariant),
  /** What the search left out and cannot speak of, in words; empty where there is nothing to say. */
  notTried: z.array(z.string()),
});

export type FindLrResults = z.infer<typeof FindLrResults>;

/**
 * Sums up the seeds of a variant.
 * @returns what `summary` of a variant holds
 */
export function summarizeLargestStable(
  seeds: readonly Pick<FindLrSeed, 'largestStable'>[],
): FindLrVariant['summary'] {
  const rates = seeds.flatMap(({ largestStable }) => largestStable ?? []);
  const count = rates.length;
  if (count === 0) return { largestStable: null, spread: null, seeds: 0 };
  // Of seeds that agree it is that rate to the last bit, which its logarithm would not give back.
  if (rates.every((rate) => rate === rates[0])) {
    return { largestStable: rates[0]!, spread: count < 2 ? null : 1, seeds: count };
  }
  const logs = rates.map(elementary.log);
  return {
    largestStable: elementary.exp(mean(logs)),
    spread: elementary.exp(spread(logs)!),
    seeds: count,
  };
}
