/** RMS norm of what each block adds to the residual stream, on top of the pre-norms (CogView; the paper's Table 2, row 7). */

import { rmsNorm } from '@sluice/engine';
import { z } from 'zod';
import type { Control } from './control.ts';

const Settings = z.strictObject({
  kind: z.literal('sandwich-norm').describe('RMS norm of the outputs of attention and feed-forward.'),
});

const GAINS = {
  attention: 'self_attn.output_norm.weight',
  feedForward: 'mlp.output_norm.weight',
} as const;

export const sandwichNorm: Control<z.infer<typeof Settings>> = {
  schema: Settings,
  tensors: (_, { hiddenSize }) =>
    Object.values(GAINS).map((name) => ({ name, shape: [hiddenSize], initial: 1, decay: false })),
  keptWidths: (_, { hiddenSize }) => [hiddenSize, hiddenSize],
  blockOutput: (_, y_NC, block, { sizes, parameter }) =>
    rmsNorm(y_NC, parameter(GAINS[block]), sizes.rmsNormEps),
};
