/**
 * Parts that several mixers are made of.
 *
 * Shapes: N tokens, W channels of a convolution; H heads of Dv channels, Y = H·Dv.
 */

import { cachedShortConvolution, type Parameter, rmsNorm, shortConvolution } from '@sluice/engine';
import * as tf from '@tensorflow/tfjs';
import type { Width } from '../widths.ts';
import type { MixerParameter, MixerPass, RulePass } from './mixer.ts';

/** How fast states of a delta rule decay at first: in a thousand tokens to less than one, by head; or mostly within a token. */
export const INITIAL_DECAYS = {
  'time-steps': {
    aLog: { distribution: 'log-of-uniform', from: 1, to: 16 },
    dtBias: { distribution: 'time-step', from: 0.001, to: 0.1 },
  },
  fast: { aLog: { distribution: 'log-of-uniform', from: 0.01, to: 16 }, dtBias: 1 },
} as const;

/** A parameter that is one tensor of the same name. */
export function whole(
  name: string,
  shape: readonly number[],
  rest: Pick<MixerParameter, 'initial' | 'decay' | 'group' | 'isLinear'>,
): MixerParameter {
  return { name, shape, tensors: [{ name, shape }], ...rest };
}

/** Weights of a linear layer. */
export function matrix(
  name: string,
  rows: number,
  columns: number,
  group: MixerParameter['group'],
): MixerParameter {
  return whole(name, [rows, columns], { initial: 'normal', decay: true, group, isLinear: true });
}

/** Weights of a depthwise convolution, at first as PyTorch has them: within 1/√K of zero. */
export function convolutionWeights(name: string, channels: number, taps: number): MixerParameter {
  const bound = 1 / Math.sqrt(taps);
  return whole(name, [channels, 1, taps], {
    initial: { distribution: 'uniform', from: -bound, to: bound },
    ...{ decay: true, group: 'attention' },
  });
}

/** [N, W] of [N, W]: a causal convolution of each channel for itself, whose state, if the pass has one, is `inputs`. */
export function convolve(
  x_NW: tf.Tensor2D,
  weight: Parameter,
  activation: 'silu' | 'none',
  { rows, state }: Pick<MixerPass, 'rows' | 'state'>,
): tf.Tensor2D {
  return state
    ? cachedShortConvolution(x_NW, weight, activation, state.get('inputs')!)
    : shortConvolution(x_NW, weight, { ...rows, activation });
}

/** [N, Y] of [N, Y]: each head by itself. @param gain [Dv], the same of all heads */
export function normOfHeads(o_NY: tf.Tensor2D, gain: Parameter, eps: number): tf.Tensor2D {
  const [channels] = gain.shape as [number];
  const o_RD = tf.reshape(o_NY, [-1, channels]) as tf.Tensor2D;
  return tf.reshape(rmsNorm(o_RD, gain, eps), o_NY.shape);
}

/** Of a delta rule, whose heads have a state each. */
export interface RuleSizes extends Omit<RulePass['rule'], 'decays'> {
  /** Channels of all keys as they are projected; as many of queries. */
  readonly projectedKeys: number;
  /** Whether heads share them, so that they are repeated for each. */
  readonly isRepeated: boolean;
}

/**
 * What there is when a device forms the gradients of a delta rule, whichever it is: what is projected, the same after the convolution once
 * more, and its parts; queries and keys of unit length, with what they were divided by; what the rule gives, and the gradients of queries, keys
 * and values. Around it are the layer's input with its gradient, both also after the norm, and the gradient that comes in.
 */
export function widthsOfRule(
  { projectedKeys, isRepeated, heads, keyDim, valueDim }: RuleSizes,
  hiddenSize: number,
): Width[] {
  const [keys, values] = [heads * keyDim, heads * valueDim];
  const projected = 2 * projectedKeys + values;
  const unit = [projectedKeys, { words: projectedKeys / keyDim }, ...(isRepeated ? [keys] : [])];
  return [
    ...[hiddenSize, hiddenSize, hiddenSize, hiddenSize, values],
    ...[projected, projected, projected, ...unit, ...unit],
    ...[values, keys, keys, values],
  ];
}
