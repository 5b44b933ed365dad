/** SiLU of the attention output, without parameters (the paper's Table 3, row 6). */

import * as tf from '@tensorflow/tfjs';
import { z } from 'zod';
import type { Control } from './control.ts';

const Settings = z.strictObject({
  kind: z.literal('sdpa-silu').describe('SiLU of the attention output, without parameters.'),
});

export const sdpaSilu: Control<z.infer<typeof Settings>> = {
  schema: Settings,
  keptWidths: (_, { numAttentionHeads, headDim }) => Array(2).fill(numAttentionHeads * headDim),
  sdpa: (_, y) => tf.mul(y, tf.sigmoid(y)),
};
