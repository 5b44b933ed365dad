/** How the rotary embedding is configured; the formulas are in `rope.ts`. */

import { z } from 'zod';

/** How the rotary embedding reaches further than it was trained for. */
export const RopeScalingConfig = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('linear').describe('Position interpolation: all frequencies divided by the factor.'),
    factor: z.number().min(1).describe('Times the trained length.'),
  }),
  z.strictObject({
    kind: z.literal('yarn').describe('YaRN: only low frequencies divided, and attention sharpened.'),
    factor: z.number().min(1).describe('Times the trained length.'),
    originalLength: z.int().min(1).describe('Sequence length that the model was trained for, in tokens.'),
    betaFast: z
      .number()
      .positive()
      .default(32)
      .describe('Turns within the trained length from which on a frequency is kept.'),
    betaSlow: z
      .number()
      .positive()
      .default(1)
      .describe('Turns within the trained length up to which a frequency is divided by the factor.'),
    attentionFactor: z
      .number()
      .positive()
      .optional()
      .describe('Factor of rotated queries and keys; 0.1·ln(factor) + 1 when left out.'),
  }),
  z.strictObject({
    kind: z.literal('llama3').describe('Llama 3.1: only low frequencies divided, by their wavelengths.'),
    factor: z.number().min(1).describe('Times the trained length.'),
    originalLength: z.int().min(1).describe('Sequence length that the model was trained for, in tokens.'),
    lowFrequencyFactor: z
      .number()
      .positive()
      .default(1)
      .describe('Turns within the trained length up to which a frequency is divided by the factor.'),
    highFrequencyFactor: z
      .number()
      .positive()
      .default(4)
      .describe('Turns within the trained length from which on a frequency is kept.'),
  }),
  z.strictObject({
    kind: z
      .literal('proportional')
      .describe('Frequencies of the whole head, of which only the highest turn; nothing is stretched.'),
    share: z.number().gt(0).max(1).describe('Share of the pairs of channels that turn.'),
  }),
]);

export type RopeScalingConfig = z.infer<typeof RopeScalingConfig>;

/** What may differ between layers of the rotary embedding, and what a model says of all of them. */
export const ROPE_FIELDS = {
  positions: z
    .enum(['rotary', 'none'])
    .optional()
    .describe(
      'none: queries and keys are not rotated, so that attention does not see positions; rotary when left out.',
    ),
  rotaryDim: z
    .int()
    .min(2)
    .multipleOf(2)
    .optional()
    .describe('Channels of a head that the rotary embedding turns, even; all of them when left out.'),
  ropeScaling: RopeScalingConfig.optional().describe(
    'Stretches the rotary embedding over longer sequences; leave out for none.',
  ),
};
