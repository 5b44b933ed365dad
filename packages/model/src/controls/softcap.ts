/**
 * Soft caps (Gemma 2, arXiv 2408.00118 §2): attention's scores, or the model's logits, become cap · tanh(x / cap). What is small
 * stays as it is, and nothing grows beyond ±cap.
 *
 * Only `cuda` has a kernel of attention with a cap. Elsewhere plain operations compute it, and the whole square of scores is there for
 * one layer at a time.
 */

import { z } from 'zod';
import type { Control } from './control.ts';

const Settings = z.strictObject({
  kind: z
    .literal('softcap')
    .describe('Caps attention’s scores, or the model’s logits, smoothly: cap · tanh(x / cap).'),
  attention: z
    .number()
    .positive()
    .optional()
    .describe('Cap of attention’s scores before their softmax; Gemma 2 has 50. Left out, they have none.'),
  logits: z
    .number()
    .positive()
    .optional()
    .describe('Cap of the model’s logits; Gemma 2 has 30. Left out, they have none.'),
});

export const softcap: Control<z.infer<typeof Settings>> = {
  schema: Settings,
  refusal: ({ attention, logits }) =>
    attention === undefined && logits === undefined
      ? 'a softcap of nothing: give attention, logits, or both'
      : undefined,
  caps: ({ attention, logits }) => ({ attention, logits }),
};
