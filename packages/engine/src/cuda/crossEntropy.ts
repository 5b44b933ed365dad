/** The loss of a model's tokens on a device, as launches of its kernels. N: tokens; C: channels; V: vocabulary. */

import { invariant } from '@sluice/core';
import { type Activations, type DeviceArray, kernelFor } from './device.ts';
import { TOKENS_TOGETHER } from './memorySizes.ts';
import { matmul, matmulPlain, matmulTransposed } from './products.ts';

type Floats = DeviceArray<'f32'>;

/** The largest logit, and the sum of exponentials, of each warp. */
const CROSS_ENTROPY_SHARED_BYTES = 64;

export interface CrossEntropyArguments {
  /** [N, C] */
  readonly x: Activations;
  /** [V, C]; in bf16, C and V are multiples of 8 */
  readonly weight: Activations;
  /** [N]; a negative target is left out */
  readonly targets: Int32Array;
  /** [N] */
  readonly losses: Floats;
  readonly vocabulary: number;
  /** Factor of the gradients. */
  readonly scale: number;
  /** Of the logits, cap · tanh(logit / cap); none when 0. */
  readonly cap?: number;
  /** Of x [N, C] and of the weight [V, C], which is added to; neither is formed without them. */
  readonly gradients?: { readonly dx: Activations; readonly dWeight: Floats };
}

/** The loss of each token with the logits x·weightᵀ, of which a block of tokens is there at a time, and the gradients at once. */
export function linearCrossEntropy(call: CrossEntropyArguments): void {
  const { x, weight, targets, losses, vocabulary, scale, cap = 0, gradients } = call;
  const { device } = x;
  const channels = weight.length / vocabulary;
  const tokens = targets.length;
  const beyond = targets.findIndex((target) => target >= vocabulary);
  invariant(
    beyond < 0,
    `target ${targets[beyond]} of token ${beyond} is beyond the vocabulary of ${vocabulary}`,
  );
  invariant(
    losses.length === tokens && x.length === tokens * channels,
    `${x.length} activations for ${tokens} tokens of ${channels}`,
  );
  const most = Math.min(tokens, TOKENS_TOGETHER);
  const logits = device.allocate(most * vocabulary, 'f32');
  const dLogits = device.allocate(gradients ? most * vocabulary : 0, x.storage);
  const onDevice = device.upload(targets, 'i32');
  for (let begin = 0; begin < tokens; begin += TOKENS_TOGETHER) {
    const end = Math.min(tokens, begin + TOKENS_TOGETHER);
    const count = end - begin;
    const rows = (array: Activations) => array.subarray(begin * channels, end * channels);
    const block = logits.subarray(0, count * vocabulary);
    matmul(rows(x), weight, block, { M: count, N: vocabulary, K: channels });
    const args = [
      block,
      onDevice.subarray(begin, end),
      losses.subarray(begin, end),
      gradients ? dLogits : null,
    ];
    const kernel = kernelFor('crossEntropy', 'crossEntropy', x);
    kernel.launch([count], CROSS_ENTROPY_SHARED_BYTES, ...args, vocabulary, scale, cap);
    if (!gradients) continue;
    const dBlock = dLogits.subarray(0, count * vocabulary);
    matmulPlain(dBlock, weight, rows(gradients.dx), { M: count, N: channels, K: vocabulary });
    const shape = { M: vocabulary, N: channels, K: count };
    matmulTransposed(dBlock, rows(x), gradients.dWeight, shape, { accumulate: true });
  }
  for (const array of [logits, dLogits, onDevice]) device.free(array);
}
