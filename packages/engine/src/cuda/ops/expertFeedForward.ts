import type * as tf from '@tensorflow/tfjs';
import { type GradientContext, implementFused, type KernelContext } from '../../fused.ts';
import {
  COUNTED_FEED_FORWARD,
  EXPERT_FEED_FORWARD,
  type ExpertWeights,
} from '../../ops/expertFeedForward.ts';
import type { Parameter } from '../../parameter.ts';
import type { Activations } from '../device.ts';
import { CountedRows, type ExpertRows, HostRows } from '../expertRows.ts';
import { expertGradients, expertProducts } from '../experts.ts';
import { swiGlu, swiGluBackward } from '../operations.ts';
import { masterOf, weightsOf } from '../weights.ts';
import { checkWidths } from './operands.ts';

implementFused('cuda', EXPERT_FEED_FORWARD, {
  forward: (context) =>
    forward(context, new HostRows(context.input('x').device, context.attributes.segments)),
  backward(context, [dy], [x]) {
    const { segments, sources } = context.attributes;
    return backward(context, dy!, x!, new HostRows(context.valuesOf(x!).device, segments), sources);
  },
});

implementFused('cuda', COUNTED_FEED_FORWARD, {
  forward: (context) => forward(context, new CountedRows(context.integers('counts'), context.shape('x')[0]!)),
  backward(context, [dy], [x, counts]) {
    return backward(context, dy!, x!, new CountedRows(context.integersOf(counts!), x!.shape[0]!), 1);
  },
});

function forward(
  {
    input,
    shape,
    output,
    saved,
    attributes: { gateUp, down, limit = 0 },
  }: KernelContext<ExpertWeights, 'cuda'>,
  experts: ExpertRows,
): tf.TensorInfo {
  const [rows, channels] = shape('x') as [number, number];
  const units = down.shape[2]!;
  checkWidths('feed-forward of experts', { channels, 'hidden units': units });
  const y = output([rows, channels]);
  const preactivations = saved.activations('preactivations', rows * 2 * units);
  const hidden = saved.activations('hidden', rows * units);
  const toHidden = { N: 2 * units, K: channels };
  expertProducts([input('x'), weightsOf(gateUp), preactivations], experts, toHidden);
  swiGlu(preactivations, hidden, units, limit);
  expertProducts([hidden, weightsOf(down), y.values], experts, { N: channels, K: units });
  saved.free('hidden');
  return y.info;
}

function backward(
  { valuesOf, tensor, saved, attributes }: GradientContext<ExpertWeights, 'cuda'>,
  dyTensor: tf.Tensor,
  x: tf.Tensor,
  experts: ExpertRows,
  sources: number,
): Record<string, tf.Tensor> {
  const { gateUp, down, limit = 0 } = attributes;
  const [rows, channels] = x.shape as [number, number];
  const units = down.shape[2]!;
  const dy = valuesOf(dyTensor);
  const dx = tensor([rows, channels]);
  // Each becomes the other of its shape: preactivations their gradient, and the gradient of the hidden units these.
  const preactivations = saved.activations('preactivations');
  const hidden = saved.activations('hidden', rows * units);
  const plain = { isPlain: true };
  expertProducts([dy, weightsOf(down), hidden], experts, { N: units, K: channels }, plain);
  const gradients = { dPreactivations: preactivations, hidden };
  swiGluBackward({ preactivations, dHidden: hidden }, gradients, units, limit);
  const toInput = { N: channels, K: 2 * units };
  expertProducts([preactivations, weightsOf(gateUp), dx.values], experts, toInput, plain);
  for (let source = 0; source < sources; source++) {
    contributeSegments(down, [dy, hidden], experts, source);
    contributeSegments(gateUp, [preactivations, valuesOf(x)], experts, source);
  }
  return { x: dx.tensor };
}

/** The gradient [E, O, C] of experts' weights from the rows [M, O] and [M, C] of a source's segments. */
function contributeSegments(
  weight: Parameter,
  rows: readonly [Activations, Activations],
  experts: ExpertRows,
  source: number,
): void {
  const [count, M, N] = weight.shape as [number, number, number];
  weight.contribute((target) => {
    const { accumulate } = target;
    const values = masterOf(target);
    const segments = experts.segmentsOf(source, count, accumulate ? 'filled' : 'all');
    expertGradients(rows, values, segments, { M, N }, { accumulate });
    values.device.free(segments);
  }, source);
}
