/**
 * RMS norm of each head's attention output, before the heads are concatenated (the paper's "SDPA GroupNorm", §4.1): its
 * non-linearity without a gate. The gain [D] is shared by the heads, as those of the norms of queries and keys are.
 */

import { rmsNorm } from '@sluice/engine';
import * as tf from '@tensorflow/tfjs';
import { z } from 'zod';
import type { Control } from './control.ts';

const Settings = z.strictObject({
  kind: z.literal('sdpa-norm').describe('RMS norm of each head’s attention output.'),
});

const GAIN = 'self_attn.sdpa_norm.weight';

export const sdpaNorm: Control<z.infer<typeof Settings>> = {
  schema: Settings,
  tensors: (_, { headDim }) => [{ name: GAIN, shape: [headDim], initial: 1, decay: false, isGain: true }],
  keptWidths: (_, { numAttentionHeads, headDim }) => [numAttentionHeads * headDim],
  sdpa(_, y, { sizes, gain }) {
    const heads_MD = tf.reshape(y, [-1, sizes.headDim]) as tf.Tensor2D;
    return tf.reshape(rmsNorm(heads_MD, gain(GAIN), sizes.rmsNormEps), y.shape);
  },
};
