import { z } from 'zod';

/**
 * Low-communication training (DiLoCo, Douillard et al., arXiv 2311.08105): replicas of the model train apart, each on its part of every
 * batch, and every so many steps their mean way from where they began is a gradient for an outer optimizer; of parts of the model at
 * different steps, and while training goes on, where so configured (Streaming DiLoCo, arXiv 2501.18512).
 */
export const SynchronizeConfig = z.strictObject({
  everySteps: z
    .int()
    .min(1)
    .describe(
      'Steps that the replicas take apart, between synchronizations; the last step of the run always ends with one.',
    ),
  replicas: z
    .int()
    .min(2)
    .describe(
      'Models that train apart; a power of two that divides `parallel.lanes`. Each has an equal part of every batch. The result depends on it, and not on the number of workers, which may be smaller or larger.',
    ),
  parts: z
    .int()
    .min(1)
    .default(1)
    .describe(
      'Parts of the model, made of whole layers, that are brought together at different steps, each every `everySteps`, so that no step has to send all of it. The result depends on it.',
    ),
  overlapSteps: z
    .int()
    .min(0)
    .default(0)
    .describe(
      'Steps that go on while a part’s differences travel; the outer step is taken after the last of them. 0: the exchange is waited for at once. Fewer than the steps from one part’s exchange to the next. The result depends on it.',
    ),
  mixing: z
    .number()
    .min(0)
    .lt(1)
    .optional()
    .describe(
      'Share of its own weights that a replica keeps when the outer weights come after steps that an exchange overlapped (α of Streaming DiLoCo): 0 takes the outer ones and leaves out what the replica has learned meanwhile. When left out: 0.5. The result depends on it.',
    ),
  outer: z
    .enum(['nesterov'])
    .default('nesterov')
    .describe('Optimizer of the outer weights; nesterov: gradient descent with Nesterov’s momentum.'),
  learningRate: z.number().positive().default(0.7).describe('Of the outer optimizer; it has no schedule.'),
  momentum: z.number().min(0).lt(1).default(0.9).describe('Of the outer optimizer.'),
  outerGradients: z
    .enum(['float32', 'int8'])
    .default('float32')
    .describe(
      'How differences travel. float32: as they are; int8: rounded to 8 bits, with a scale for each 256 values, which is another result.',
    ),
});

/** The paper's, where the configuration gives none. */
export const USUAL_MIXING = 0.5;

export type SynchronizeConfig = z.infer<typeof SynchronizeConfig>;
