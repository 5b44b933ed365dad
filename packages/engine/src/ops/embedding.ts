/** Rows of an embedding table by token id. Shapes: N tokens, V vocabulary, C channels. */

import * as tf from '@tensorflow/tfjs';
import { changeOnHost, flatMemory } from '../flatMemory.ts';
import { fusedOperation, hasFused, implementFused, runFused } from '../fused.ts';
import { callNative } from '../native.ts';
import type { GradientTarget, Parameter } from '../parameter.ts';
import { whenRead } from '../reads.ts';
import { currentAnchor } from '../tape.ts';

export const EMBEDDING = fusedOperation<{ readonly ids: Int32Array; readonly weight: Parameter }>({
  name: 'SluiceEmbedding',
  inputsToSave: [],
});

/**
 * @param ids token ids, each below V; must stay unchanged until the backward pass is over
 * @param weight table of shape [V, C]; its gradient adds up in order of the tokens
 * @returns [N, C]
 */
export function embedding(ids: Int32Array, weight: Parameter): tf.Tensor2D {
  if (!hasFused(EMBEDDING)) return tf.tidy(() => plainEmbedding(ids, weight, currentAnchor()));
  return runFused(EMBEDDING, {}, { ids, weight });
}

/** The reference, with a gradient that is added up by the processor, in order of the tokens, whatever the backend is. */
function plainEmbedding(ids: Int32Array, weight: Parameter, anchor: tf.Scalar | undefined): tf.Tensor2D {
  const rows = () => embeddingReference(ids, weight.tensor as tf.Tensor2D);
  if (!anchor) return rows();
  const operation = tf.customGrad(() => ({
    value: tf.tidy(rows),
    gradFunc: (dy: tf.Tensor) => {
      whenRead([dy], (rows) => weight.contribute((target) => addRows(ids, rows, weight.shape[1]!, target)));
      return tf.scalar(0);
    },
  }));
  return operation(anchor) as tf.Tensor2D;
}

function addRows(
  ids: Int32Array,
  rows: Float32Array,
  width: number,
  { values, accumulate }: GradientTarget,
): void {
  if (!accumulate) flatMemory().fill(values, 0);
  changeOnHost(values, (sums) => {
    ids.forEach((id, n) => {
      for (let c = 0; c < width; c++) sums[id * width + c]! += rows[n * width + c]!;
    });
  });
}

export function embeddingReference(ids: Int32Array, weight_VC: tf.Tensor2D): tf.Tensor2D {
  return tf.gather(weight_VC, tf.tensor1d(ids, 'int32'));
}

implementFused('native', EMBEDDING, {
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
