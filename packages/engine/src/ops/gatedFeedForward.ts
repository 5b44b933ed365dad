/**
 * Gated feed-forward (SwiGLU; Shazeer, 2020): down(silu(gate x) ⊙ up x). One weight holds both the gate and `up`, so that
 * they are one product. With a limit L, down(min(silu(gate x), L) ⊙ clamp(up x, −L, L)) (Step-3.5). Shapes: N tokens, C channels, F hidden units.
 */

import * as tf from '@tensorflow/tfjs';
import { hostArray } from '../flatMemory.ts';
import { fusedOperation, hasFused, implementFused, runFused } from '../fused.ts';
import { matrixProduct } from '../matrixProduct.ts';
import { callNative } from '../native.ts';
import type { Parameter } from '../parameter.ts';

interface FeedForwardAttributes {
  readonly gateUp: Parameter;
  readonly down: Parameter;
  readonly limit?: number | undefined;
}

export const GATED_FEED_FORWARD = fusedOperation<FeedForwardAttributes>({
  name: 'SluiceGatedFeedForward',
  inputsToSave: ['x'],
});

/**
 * @param x_NC activations
 * @param gateUp shape [2F, C]: the gate's rows, then those of `up`
 * @param down shape [C, F]
 * @param limit of the hidden units' two factors; none when left out
 * @returns [N, C]
 */
export function gatedFeedForward(
  x_NC: tf.Tensor2D,
  gateUp: Parameter,
  down: Parameter,
  limit?: number,
): tf.Tensor2D {
  if (hasFused(GATED_FEED_FORWARD)) return runFused(GATED_FEED_FORWARD, { x: x_NC }, { gateUp, down, limit });
  return tf.tidy(() =>
    gatedFeedForwardReference(x_NC, gateUp.onTape() as tf.Tensor2D, down.onTape() as tf.Tensor2D, limit),
  );
}

export function gatedFeedForwardReference(
  x_NC: tf.Tensor2D,
  gateUp_GC: tf.Tensor2D,
  down_CF: tf.Tensor2D,
  limit?: number,
): tf.Tensor2D {
  const [gate_NF, up_NF] = tf.split(tf.matMul(x_NC, gateUp_GC, false, true), 2, 1) as [
    tf.Tensor2D,
    tf.Tensor2D,
  ];
  return tf.matMul(hiddenUnits(gate_NF, up_NF, limit) as tf.Tensor2D, down_CF, false, true);
}

/** silu(gate) ⊙ up, both factors within the limit if there is one. */
export function hiddenUnits(gate: tf.Tensor, up: tf.Tensor, limit: number | undefined): tf.Tensor {
  const value = tf.mul(gate, tf.sigmoid(gate));
  if (limit === undefined) return tf.mul(value, up);
  return tf.mul(tf.minimum(value, limit), tf.clipByValue(up, -limit, limit));
}

implementFused('native', GATED_FEED_FORWARD, {
  forward({ input, shape, output, recording, saved, attributes: { gateUp, down, limit = 0 } }) {
    const [tokens, channels] = shape('x') as [number, number];
    const units = down.shape[1]!;
    const y = output([tokens, channels]);
    const preactivations = recording ? saved.floats('preactivations', tokens * 2 * units) : null;
    const operands = [input('x'), gateUp.values, down.values, y.values, preactivations];
    callNative('gatedFeedForward', ...operands, tokens, channels, units, limit);
    return y.info;
  },
  backward({ valuesOf, tensor, saved, attributes: { gateUp, down, limit = 0 } }, [dy], [x]) {
    const [tokens, channels] = x!.shape as [number, number];
    const units = down.shape[1]!;
    const dx = tensor([tokens, channels]);
    const dyValues = valuesOf(dy!);
    const hidden = saved.floats('hidden', tokens * units);
    // Becomes its own gradient.
    const preactivations = saved.floats('preactivations');
    const operands = [gateUp.values, down.values, preactivations, dyValues, hidden, dx.values];
    callNative('gatedFeedForwardBackward', ...operands, tokens, channels, units, limit);
    down.contribute(({ values, accumulate }) => {
      const sizes = { rows: channels, columns: units, depth: tokens };
      matrixProduct(dyValues, hidden, hostArray(values), {
        ...sizes,
        transposeA: true,
        beta: accumulate ? 1 : 0,
      });
    });
    gateUp.contribute(({ values, accumulate }) => {
      const sizes = { rows: 2 * units, columns: channels, depth: tokens };
      matrixProduct(preactivations, valuesOf(x!), hostArray(values), {
        ...sizes,
        transposeA: true,
        beta: accumulate ? 1 : 0,
      });
    });
    return { x: dx.tensor };
  },
});
