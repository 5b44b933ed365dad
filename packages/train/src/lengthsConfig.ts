/** What a configuration says of lengths: of batches, of the run, and of the parts of its schedule. */

import { z } from 'zod';

/** Sizes of a growing batch are counted out one by one, before anything else could say that they are too many. */
const MOST_SIZES = 10_000;

/** A plan goes through the grains of a batch one by one, which may have a sequence each. */
const MOST_SEQUENCES = 2 ** 26;

/** A length in tokens, in place of one in steps. */
const tokens = (text: string) => z.int().min(1).optional().describe(text);

/** A batch that grows. Early gradients agree with each other, so that few sequences are enough for them. */
export const BatchRampConfig = z.strictObject({
  from: z.int().min(1).describe('Sequences in the batch of the first step.'),
  increment: z
    .int()
    .min(1)
    .optional()
    .describe('Sequences by which the batch grows each time; left out, it doubles.'),
  steps: z
    .int()
    .min(1)
    .optional()
    .describe('Steps before the batch is whole; each size has an equal share of them.'),
  tokens: tokens('In place of `steps`: tokens before the batch is whole.'),
});

export const BatchConfig = z
  .strictObject({
    sequences: z
      .int()
      .min(1)
      .max(MOST_SEQUENCES)
      .describe('Sequences in the global batch of one step; where it grows, of the steps after that.'),
    grainSequences: z
      .int()
      .min(1)
      .default(1)
      .describe('Sequences of one grain, the micro-batch whose gradient is computed in one pass.'),
    ramp: BatchRampConfig.optional().describe(
      'Smaller batches at the beginning; when left out, all steps have as many sequences. Each size must divide into grains and lanes.',
    ),
  })
  .superRefine(({ sequences, ramp }, context) => {
    const { from, increment = sequences } = ramp ?? { from: sequences };
    const sizes = Math.ceil((sequences - from) / increment);
    if (sizes <= MOST_SIZES) return;
    const message = `${increment} from ${from} to ${sequences} sequences would be ${sizes} sizes, more than ${MOST_SIZES}`;
    context.addIssue({ code: 'custom', path: ['ramp', 'increment'], message });
  });

export const TrainingConfig = z.strictObject({
  steps: z.int().min(1).optional().describe('Optimizer steps of the whole run.'),
  tokens: tokens('In place of `steps`: tokens of the whole run, rounded up to whole steps.'),
});

export const ScheduleConfig = z.strictObject({
  kind: z
    .enum(['cosine', 'wsd', 'constant', 'linear'])
    .default('cosine')
    .describe('Shape after the warm-up; wsd: stable, then decay.'),
  unit: z
    .enum(['steps', 'tokens'])
    .default('steps')
    .describe(
      'What the rate is a function of: the number of the step, or the tokens up to its end. They differ where the batch grows.',
    ),
  warmupSteps: z.int().min(0).default(0).describe('Steps of linear warm-up; at most the steps of the run.'),
  warmupTokens: tokens('In place of `warmupSteps`: tokens of the warm-up, rounded up to whole steps.'),
  decaySteps: z
    .int()
    .min(0)
    .optional()
    .describe(
      'wsd only: steps of the decay at the end; 0 for none; a tenth of the run when left out. With the warm-up, at most the steps of the run.',
    ),
  decayTokens: tokens('In place of `decaySteps`: tokens of the decay, rounded up to whole steps.'),
  decayShape: z
    .enum(['linear', 'sqrt', 'cosine'])
    .optional()
    .describe(
      'wsd only: how the rate falls, where x of the decay is over; linear (when left out): 1 − x; sqrt: 1 − √x; cosine: (1 + cos πx)/2.',
    ),
  minimumRatio: z.number().min(0).max(1).default(0.1).describe('Final learning rate as a share of the peak.'),
});
