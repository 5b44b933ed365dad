import type * as tf from '@tensorflow/tfjs';
import { type GradientContext, implementFused, type KernelContext } from '../../fused.ts';
import {
  COUNTED_FEED_FORWARD,
  EXPERT_FEED_FORWARD,
  type ExpertWeights,
} from '../../ops/expertFeedForward.ts';
import { CountedRows, type ExpertRows, HostRows } from '../expertRows.ts';
import {
  checkExperts,
  contributeExpertRows,
  expertRowsBackward,
  expertRowsForward,
} from './expertComputation.ts';

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
  { input, shape, output, saved, attributes }: KernelContext<ExpertWeights, 'cuda'>,
  experts: ExpertRows,
): tf.TensorInfo {
  checkExperts(attributes);
  const y = output(shape('x'));
  const [rows, units] = [shape('x')[0]!, attributes.down.shape[2]!];
  const preactivations = saved.activations('preactivations', rows * 2 * units);
  const hidden = saved.activations('hidden', rows * units);
  expertRowsForward(input('x'), experts, attributes, { preactivations, hidden, y: y.values });
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
  const dx = tensor(x.shape);
  const preactivations = saved.activations('preactivations');
  const hidden = saved.activations('hidden', x.shape[0]! * attributes.down.shape[2]!);
  const operands = { x: valuesOf(x), preactivations, hidden, dy: valuesOf(dyTensor) };
  expertRowsBackward(operands, experts, attributes, dx.values);
  const all = Array.from({ length: sources }, (_, source) => source);
  contributeExpertRows(operands, experts, attributes, all);
  return { x: dx.tensor };
}
