/**
 * A multiplicative gate on a tensor that is divided into heads, from its logits: y ⊙ σ(logits) (the paper's eq. 5), for the
 * gates that stand elsewhere than in attention's own kernel.
 *
 * Shapes: N tokens; H heads of D channels; S = 1 (headwise) or D (elementwise) logits a head.
 */

import * as tf from '@tensorflow/tfjs';
import { fusedOperation, type GradientContext, hasFused, implementFused, runFused } from '../fused.ts';
import { callNative, type KernelArgument } from '../native.ts';

export const GATE_HEADS = fusedOperation<{ readonly gate: HeadGate }>({
  name: 'SluiceGateHeads',
  inputsToSave: ['y', 'logits'],
});

export interface HeadGate {
  readonly heads: number;
  /** D, channels of one head. */
  readonly channels: number;
  /** sigmoid: 1/(1 + e^−x); silu: x·sigmoid(x). */
  readonly activation: 'sigmoid' | 'silu';
  /** Whether all heads get the mean of their scores, taken after the activation. */
  readonly isShared: boolean;
}

/**
 * @param y [N, H·D]
 * @param logits [N, H·S]
 * @returns [N, H·D]
 */
export function gateHeads(y: tf.Tensor2D, logits: tf.Tensor2D, gate: HeadGate): tf.Tensor2D {
  if (!hasFused(GATE_HEADS)) return tf.tidy(() => gateHeadsReference(y, logits, gate));
  return runFused(GATE_HEADS, { y, logits }, { gate });
}

/** The definition of `gateHeads`. */
export function gateHeadsReference(
  y: tf.Tensor2D,
  logits: tf.Tensor2D,
  { heads, channels, activation, isShared }: HeadGate,
): tf.Tensor2D {
  const sigmoid = tf.sigmoid(logits);
  const scores = activation === 'silu' ? tf.mul(logits, sigmoid) : sigmoid;
  const scores_NHS = tf.reshape(scores, [logits.shape[0], heads, logits.shape[1] / heads]);
  const own = isShared ? tf.mean(scores_NHS, 1, true) : scores_NHS;
  return tf.reshape(tf.mul(tf.reshape(y, [y.shape[0], heads, channels]), own), y.shape);
}

function sizes(y: number[], logits: number[], gate: HeadGate): KernelArgument[] {
  const { heads, channels, activation, isShared } = gate;
  const isHeadwise = logits[1] === heads && channels > 1;
  return [y[0]!, heads, channels, isHeadwise, activation === 'silu', isShared];
}

function backward(
  { valuesOf, over, attributes: { gate } }: GradientContext<{ gate: HeadGate }>,
  [dOut]: readonly tf.Tensor[],
  [y, logits]: readonly tf.Tensor[],
): Record<string, tf.Tensor> {
  const operands = [y!, logits!, dOut!].map(valuesOf);
  const [dy, dLogits] = [over(dOut!), over(logits!)];
  callNative(
    'gateHeadsBackward',
    ...operands,
    dy.values,
    dLogits.values,
    ...sizes(y!.shape, logits!.shape, gate),
  );
  return { y: dy.tensor, logits: dLogits.tensor };
}

implementFused('native', GATE_HEADS, {
  forward({ input, shape, output, attributes: { gate } }) {
    const out = output(shape('y'));
    callNative(
      'gateHeads',
      input('y'),
      input('logits'),
      out.values,
      ...sizes(shape('y'), shape('logits'), gate),
    );
    return out.info;
  },
  backward,
});
