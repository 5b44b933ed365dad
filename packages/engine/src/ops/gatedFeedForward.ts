/**
 * Gated feed-forward (SwiGLU; Shazeer, 2020): down(silu(gate x) ⊙ up x). One weight holds both the gate and `up`, so that
 * they are one product. Shapes: N tokens, C channels, F hidden units.
 */

import * as tf from '@tensorflow/tfjs';
import { hasFused, registerFused, runFused, Saved } from '../fused.ts';
import { matrixProduct } from '../matrixProduct.ts';
import { callNative } from '../native.ts';
import type { Parameter } from '../parameter.ts';

const KERNEL = 'SluiceGatedFeedForward';

/**
 * @param x_NC activations
 * @param gateUp shape [2F, C]: the gate's rows, then those of `up`
 * @param down shape [C, F]
 * @returns [N, C]
 */
export function gatedFeedForward(x_NC: tf.Tensor2D, gateUp: Parameter, down: Parameter): tf.Tensor2D {
  if (hasFused(KERNEL)) return runFused(KERNEL, { x: x_NC }, { gateUp, down, saved: new Saved() });
  return tf.tidy(() =>
    gatedFeedForwardReference(x_NC, gateUp.onTape() as tf.Tensor2D, down.onTape() as tf.Tensor2D),
  );
}

export function gatedFeedForwardReference(
  x_NC: tf.Tensor2D,
  gateUp_GC: tf.Tensor2D,
  down_CF: tf.Tensor2D,
): tf.Tensor2D {
  const [gate_NF, up_NF] = tf.split(tf.matMul(x_NC, gateUp_GC, false, true), 2, 1) as [
    tf.Tensor2D,
    tf.Tensor2D,
  ];
  const hidden_NF = tf.mul(tf.mul(gate_NF, tf.sigmoid(gate_NF)), up_NF) as tf.Tensor2D;
  return tf.matMul(hidden_NF, down_CF, false, true);
}

registerFused<{ gateUp: Parameter; down: Parameter; saved: Saved }>({
  name: KERNEL,
  inputsToSave: ['x'],
  forward({ floats, shape, output, recording, attributes: { gateUp, down, saved } }) {
    const [tokens, channels] = shape('x') as [number, number];
    const units = down.shape[1]!;
    const y = output([tokens, channels]);
    const preactivations = recording ? saved.floats('preactivations', tokens * 2 * units) : null;
    const operands = [floats('x'), gateUp.values, down.values, y.values, preactivations];
    callNative('gatedFeedForward', ...operands, tokens, channels, units);
    return y.info;
  },
  backward({ valuesOf, tensor, attributes: { gateUp, down, saved } }, [dy], [x]) {
    const [tokens, channels] = x!.shape as [number, number];
    const units = down.shape[1]!;
    const dx = tensor([tokens, channels]);
    const dyValues = valuesOf(dy!);
    const hidden = saved.floats('hidden', tokens * units);
    // Becomes its own gradient.
    const preactivations = saved.get('preactivations');
    const operands = [gateUp.values, down.values, preactivations, dyValues, hidden, dx.values];
    callNative('gatedFeedForwardBackward', ...operands, tokens, channels, units);
    down.contribute(({ values, accumulate }) => {
      const sizes = { rows: channels, columns: units, depth: tokens };
      matrixProduct(dyValues, hidden, values, { ...sizes, transposeA: true, beta: accumulate ? 1 : 0 });
    });
    gateUp.contribute(({ values, accumulate }) => {
      const sizes = { rows: 2 * units, columns: channels, depth: tokens };
      matrixProduct(preactivations, valuesOf(x!), values, {
        ...sizes,
        transposeA: true,
        beta: accumulate ? 1 : 0,
      });
    });
    saved.free();
    return { x: dx.tensor };
  },
});
