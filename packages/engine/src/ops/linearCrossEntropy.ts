/**
 * The output layer and the cross-entropy of its logits: Σ_n (logsumexp(x_n·Wᵀ) − logit of the target of n). All the logits
 * never exist at once. Shapes: N tokens, C channels, V vocabulary.
 */

import { invariant } from '@sluice/core';
import * as tf from '@tensorflow/tfjs';
import type { Floats } from '../floats.ts';
import { fusedOperation, hasFused, implementFused, runFused } from '../fused.ts';
import { callNative } from '../native.ts';
import type { Parameter } from '../parameter.ts';
import { recomputed } from '../recompute.ts';
import { softcap } from './softcap.ts';

export interface CrossEntropyOptions {
  /** Factor of the result and of its gradients, such as one over the number of tokens of the whole batch. */
  readonly scale: number;
  /** Logits become cap · tanh(logit / cap), where it is given. */
  readonly cap?: number | undefined;
}

interface CrossEntropyAttributes {
  readonly weight: Parameter;
  readonly targets: Int32Array;
  readonly options: CrossEntropyOptions;
}

export const LINEAR_CROSS_ENTROPY = fusedOperation<CrossEntropyAttributes>({
  name: 'SluiceLinearCrossEntropy',
  inputsToSave: [],
});

/**
 * While gradients are recorded, they are formed together with the loss, a block of tokens at a time, so that nothing is
 * computed twice; the result must then enter the total loss with the factor 1.
 *
 * @param x_NC activations
 * @param weight shape [V, C]
 * @param targets token ids; a negative one leaves its token out (no loss, no gradient)
 * @returns scale · the sum of the losses, in nats; on `native` added in double precision, in order of the tokens
 */
export function linearCrossEntropy(
  x_NC: tf.Tensor2D,
  weight: Parameter,
  targets: Int32Array,
  options: CrossEntropyOptions,
): tf.Scalar {
  invariant(targets.length === x_NC.shape[0], `${targets.length} targets for ${x_NC.shape[0]} tokens`);
  if (hasFused(LINEAR_CROSS_ENTROPY))
    return runFused(LINEAR_CROSS_ENTROPY, { x: x_NC }, { weight, targets, options });
  return tf.tidy(() => inBlocks(x_NC, weight, targets, options));
}

/** Tokens whose logits exist at once on backends without the kernel. */
const BLOCK_TOKENS = 1024;

/** The reference a block of tokens after the other, so that not all the logits exist at once. */
function inBlocks(
  x_NC: tf.Tensor2D,
  weight: Parameter,
  targets: Int32Array,
  options: CrossEntropyOptions,
): tf.Scalar {
  const sums: tf.Scalar[] = [];
  for (let begin = 0; begin < targets.length; begin += BLOCK_TOKENS) {
    const ofBlock = targets.subarray(begin, begin + BLOCK_TOKENS);
    const x = tf.slice2d(x_NC, [begin, 0], [ofBlock.length, -1]);
    const compute = (rows: tf.Tensor) =>
      linearCrossEntropyReference(rows as tf.Tensor2D, weight.onTape() as tf.Tensor2D, ofBlock, options);
    sums.push(recomputed([x], compute));
  }
  return (sums.length === 1 ? sums[0]! : tf.addN(sums)) as tf.Scalar;
}

export function linearCrossEntropyReference(
  x_NC: tf.Tensor2D,
  weight_VC: tf.Tensor2D,
  targets: Int32Array,
  { scale, cap }: CrossEntropyOptions,
): tf.Scalar {
  const logits_NV = softcap(tf.matMul(x_NC, weight_VC, false, true) as tf.Tensor2D, cap);
  const ids_N = tf.tensor1d(
    targets.map((target) => Math.max(target, 0)),
    'int32',
  );
  const wanted_N = tf.sum(tf.mul(logits_NV, tf.oneHot(ids_N, weight_VC.shape[0])), 1);
  const counted_N = tf.tensor1d(Float32Array.from(targets, (target) => (target < 0 ? 0 : 1)));
  const losses_N = tf.mul(tf.sub(tf.logSumExp(logits_NV, 1), wanted_N), counted_N);
  return tf.mul(tf.sum(losses_N), scale) as tf.Scalar;
}

implementFused('native', LINEAR_CROSS_ENTROPY, {
  forward({ input, shape, output, recording, saved, attributes: { weight, targets, options } }) {
    const [tokens, channels] = shape('x') as [number, number];
    const { scale, cap = 0 } = options;
    const losses = new Float32Array(tokens);
    const loss = output([]);
    const run = (dx: Float32Array | null, dWeight: Floats | null, accumulate: boolean) => {
      const operands = [input('x'), weight.values, targets, losses, dx, dWeight];
      const sizes = [tokens, channels, weight.shape[0]!];
      const sum = callNative('linearCrossEntropy', ...operands, ...sizes, scale, accumulate, cap);
      loss.values[0] = scale * sum;
    };
    if (recording) {
      // Known before the backward pass.
      const dx = saved.floats('dx', tokens * channels);
      weight.contribute(({ values, accumulate }) => run(dx, values, accumulate));
    } else {
      run(null, null, false);
    }
    return loss.info;
  },
  backward({ valuesOf, saved, attributes: { weight, targets } }, [dy]) {
    const factor = valuesOf(dy!)[0];
    invariant(factor === 1, `the gradient of the cross-entropy's result is ${factor}, not 1`);
    return { x: saved.tensor('dx', [targets.length, weight.shape[1]!]) };
  },
});
