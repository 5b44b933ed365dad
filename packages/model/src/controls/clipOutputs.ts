/** The outputs of attention and feed-forward clamped to (−c, c) before they join the residual stream (paper A.6). */

import * as tf from '@tensorflow/tfjs';
import { z } from 'zod';
import type { Control } from './control.ts';

const Settings = z.strictObject({
  kind: z.literal('clip-outputs').describe('Clamps the outputs of attention and feed-forward.'),
  limit: z.number().positive().describe('Largest magnitude; the paper tried 300 and 100.'),
});

export const clipOutputs: Control<z.infer<typeof Settings>> = {
  schema: Settings,
  keptWidths: (_, { hiddenSize }) => [hiddenSize, hiddenSize],
  // Two comparisons, both together, zeros, and of these and the gradient the one or the other.
  gradientWidths: ({ hiddenSize }) => [...Array(3).fill({ words: hiddenSize }), hiddenSize, hiddenSize],
  blockOutput: ({ limit }, y_NC) => tf.clipByValue(y_NC, -limit, limit),
};
