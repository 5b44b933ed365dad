import type * as tf from '@tensorflow/tfjs';
import { type GradientContext, implementFused, type KernelContext } from '../../fused.ts';
import {
  ATTENTION,
  type AttentionAttributes,
  CAPPED_ATTENTION,
  largestLogits,
} from '../../ops/gatedAttention.ts';
import { gatedAttention, gatedAttentionBackward, takesHeads } from '../attention.ts';
import { widened } from '../backend.ts';
import type { Activations } from '../device.ts';
import { refuse } from './operands.ts';

function onHost(values: Activations): Float32Array {
  const read = values.read();
  return read instanceof Uint16Array ? widened(read) : read;
}

function forward({ input, output, saved, attributes }: KernelContext<AttentionAttributes, 'cuda'>) {
  const { layout, onLargest } = attributes;
  const { batch, sequence, heads, headDim } = layout;
  if (!takesHeads(headDim)) {
    refuse('attention', `heads have ${headDim} channels, and there are kernels for multiples of 8 up to 256`);
  }
  const [q, k, v] = [input('q'), input('k'), input('v')];
  const gate = layout.gate === 'none' ? undefined : input('gate');
  const y = output([batch * sequence, heads * headDim]);
  const logSumExp = saved.floats('logSumExp', batch * sequence * heads);
  gatedAttention({ q, k, v, gate }, { y: y.values, logSumExp }, layout);
  onLargest?.(largestLogits({ q: onHost(q), k: onHost(k), layout }));
  return y.info;
}

/** @param tensors q, k, v, the gate if there is one, and the output */
function backward(
  { valuesOf, tensor, over, saved, attributes: { layout } }: GradientContext<AttentionAttributes, 'cuda'>,
  [dyTensor]: readonly tf.Tensor[],
  tensors: readonly tf.Tensor[],
): Record<string, tf.Tensor> {
  const [q, k, v] = tensors as [tf.Tensor, tf.Tensor, tf.Tensor];
  const gate = layout.gate === 'none' ? undefined : tensors[3]!;
  const operands = {
    ...{ q: valuesOf(q), k: valuesOf(k), v: valuesOf(v), gate: gate && valuesOf(gate) },
    ...{ y: valuesOf(tensors.at(-1)!), logSumExp: saved.floats('logSumExp'), dy: valuesOf(dyTensor!) },
  };
  // Keys and values are read until the end; dy and the gate by the first kernel alone.
  const [dq, dk, dv, dGate] = [over(dyTensor!), tensor(k.shape), tensor(v.shape), gate && over(gate)];
  gatedAttentionBackward(
    operands,
    { dq: dq.values, dk: dk.values, dv: dv.values, dGate: dGate?.values },
    layout,
  );
  const gradients = { q: dq.tensor, k: dk.tensor, v: dv.tensor };
  return dGate ? { ...gradients, gate: dGate.tensor } : gradients;
}

for (const operations of [ATTENTION, CAPPED_ATTENTION]) {
  for (const operation of Object.values(operations)) implementFused('cuda', operation, { forward, backward });
}
