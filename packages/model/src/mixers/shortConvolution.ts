/**
 * A gated short convolution (LFM2, LFM3): y = (C ⊙ conv(B ⊙ x)) · W, where B, C and x are projections of the layer's input, and the
 * convolution is causal and of each channel for itself. The names of tensors are those of LFM3.
 *
 * Shapes: N tokens, C hidden.
 */

import { linear } from '@sluice/engine';
import * as tf from '@tensorflow/tfjs';
import { z } from 'zod';
import type { Mixer } from './mixer.ts';
import { convolutionWeights, convolve, matrix } from './parts.ts';

const Settings = z.strictObject({
  kind: z.literal('short-convolution').describe('A convolution of the last tokens between two gates.'),
  taps: z.int().min(2).default(7).describe('Tokens that it sees, its own among them.'),
});

const NAMES = {
  input: 'conv.in_proj.weight',
  convolution: 'conv.conv.weight',
  output: 'conv.out_proj.weight',
};

export const shortConvolution: Mixer<z.infer<typeof Settings>> = {
  schema: Settings,
  parameters({ taps }, { hiddenSize }) {
    return [
      matrix(NAMES.input, 3 * hiddenSize, hiddenSize, 'attention'),
      convolutionWeights(NAMES.convolution, hiddenSize, taps),
      matrix(NAMES.output, hiddenSize, hiddenSize, 'attention'),
    ];
  },
  mix(_, x_NC, pass, { parameter }) {
    const parts = tf.split(linear(x_NC, parameter(NAMES.input)), 3, 1) as tf.Tensor2D[];
    const [before_NC, after_NC, value_NC] = parts as [tf.Tensor2D, tf.Tensor2D, tf.Tensor2D];
    const input_NC = tf.mul<tf.Tensor2D>(before_NC, value_NC);
    const y_NC = convolve(input_NC, parameter(NAMES.convolution), 'none', pass);
    return linear(tf.mul<tf.Tensor2D>(after_NC, y_NC), parameter(NAMES.output));
  },
  states: ({ taps }, { hiddenSize }) => ({ inputs: (taps - 1) * hiddenSize }),
  widths: (_, { hiddenSize }) => ({
    // The three parts, the products before and after the convolution, and what comes out of it.
    kept: Array<number>(6).fill(hiddenSize),
    gradients: [hiddenSize, hiddenSize, 3 * hiddenSize],
  }),
};
