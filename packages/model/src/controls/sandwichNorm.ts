/** RMS norm of what each block adds to the residual stream, on top of the pre-norms (CogView; the paper's Table 2, row 7). */

import { positiveFloat32 } from '@sluice/core';
import { rmsNorm } from '@sluice/engine';
import { z } from 'zod';
import type { Control } from './control.ts';

const Settings = z.strictObject({
  kind: z.literal('sandwich-norm').describe('RMS norm of the outputs of attention and feed-forward.'),
  initialGain: z
    .enum(['one', 'depth-scaled'])
    .default('one')
    .describe(
      'What the norms multiply by at first; depth-scaled: 1/√layers, so that the residual stream does not grow with the depth (Pangu Ultra, arXiv 2504.07866).',
    ),
  epsilon: positiveFloat32().optional().describe('Added to the mean square; rmsNormEps when left out.'),
});

const GAINS = {
  attention: 'self_attn.output_norm.weight',
  feedForward: 'mlp.output_norm.weight',
} as const;

export const sandwichNorm: Control<z.infer<typeof Settings>> = {
  schema: Settings,
  tensors({ initialGain }, { hiddenSize, numLayers }) {
    const initial = initialGain === 'one' ? 1 : 1 / Math.sqrt(numLayers);
    return Object.values(GAINS).map((name) => ({
      ...{ name, shape: [hiddenSize], initial, decay: false, isGain: true },
    }));
  },
  keptWidths: (_, { hiddenSize }) => [hiddenSize, hiddenSize],
  blockOutput: ({ epsilon }, y_NC, block, { sizes, gain }) =>
    rmsNorm(y_NC, gain(GAINS[block]), epsilon ?? sizes.rmsNormEps),
};
