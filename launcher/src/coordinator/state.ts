/** What the coordinator itself must remember from step to step. It is saved in every checkpoint's manifest. */

import type { Rollback } from '@sluice/train';
import { z } from 'zod';

const RollbackSchema: z.ZodType<Rollback> = z.strictObject({
  step: z.int().min(1),
  root: z.int().min(1),
  to: z.int().min(0),
  level: z.int().min(1),
  nextSample: z.int().min(0),
  rateFactor: z.number().positive(),
  rateUntil: z.int().min(0),
});

/** The coordinator's own part of a checkpoint. */
export const CoordinatorState = z.strictObject({
  /** Optimizer steps that were taken. */
  step: z.int().min(0),
  /** Training tokens that were seen. */
  tokens: z.int().min(0),
  /** Loss of the last step, nats a token; null before the first, or when it was not finite. */
  trainLoss: z.number().nullable(),
  validationLoss: z.number().nullable(),
  bestValidationLoss: z.number().nullable(),
  /** Steps since the last one whose update was applied. */
  nonFiniteInARow: z.int().min(0),
  /** State of the spike detector. */
  spikes: z.unknown(),
  /** Decisions to go back that the state rests on, oldest first. */
  rollbacks: z.array(RollbackSchema).default([]),
});

export type CoordinatorState = z.infer<typeof CoordinatorState>;

export function initialState(spikes: unknown): CoordinatorState {
  return {
    step: 0,
    tokens: 0,
    trainLoss: null,
    validationLoss: null,
    bestValidationLoss: null,
    nonFiniteInARow: 0,
    spikes,
    rollbacks: [],
  };
}
