/** Rows of an embedding table by token id. Shapes: N tokens, V vocabulary, C channels. */

import * as tf from '@tensorflow/tfjs';
import { hasFused, registerFused, runFused } from '../fused.ts';
import { callNative } from '../native.ts';
import type { Parameter } from '../parameter.ts';

const KERNEL = 'SluiceEmbedding';

/**
 * @param ids token ids, each below V; must stay unchanged until the backward pass is over
 * @param weight table of shape [V, C]; its gradient adds up in order of the tokens
 * @returns [N, C]
 */
export function embedding(ids: Int32Array, weight: Parameter): tf.Tensor2D {
  if (!hasFused(KERNEL)) return tf.tidy(() => embeddingReference(ids, weight.onTape() as tf.Tensor2D));
  return runFused(KERNEL, {}, { ids, weight });
}

export function embeddingReference(ids: Int32Array, weight_VC: tf.Tensor2D): tf.Tensor2D {
  return tf.gather(weight_VC, tf.tensor1d(ids, 'int32'));
}

registerFused<{ ids: Int32Array; weight: Parameter }>({
  name: KERNEL,
  inputsToSave: [],
  forward({ output, attributes: { ids, weight } }) {
    const [vocabulary, width] = weight.shape as [number, number];
    const y = output([ids.length, width]);
    callNative('embedding', ids, weight.values, y.values, ids.length, vocabulary, width);
    return y.info;
  },
  backward({ valuesOf, attributes: { ids, weight } }, [dy]) {
    const [vocabulary, width] = weight.shape as [number, number];
    weight.contribute(({ values, accumulate }) => {
      callNative('embeddingBackward', ids, valuesOf(dy!), values, ids.length, vocabulary, width, accumulate);
    });
    return {};
  },
});
