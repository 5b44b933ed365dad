import { implementFused } from '../../fused.ts';
import { EXPERT_FEED_FORWARD, type ExpertSegment } from '../../ops/expertFeedForward.ts';
import type { Parameter } from '../../parameter.ts';
import type { DeviceArray } from '../device.ts';
import { segmentProducts } from '../experts.ts';
import { fill } from '../flatArithmetic.ts';
import { matmulTransposed, swiGlu, swiGluBackward } from '../operations.ts';
import { masterOf, weightsOf } from '../weights.ts';
import { checkWidths } from './operands.ts';

implementFused('cuda', EXPERT_FEED_FORWARD, {
  forward({ input, shape, output, saved, attributes: { segments, gateUp, down, limit = 0 } }) {
    const [rows, channels] = shape('x') as [number, number];
    const units = down.shape[2]!;
    checkWidths('feed-forward of experts', { channels, 'hidden units': units });
    const y = output([rows, channels]);
    const preactivations = saved.activations('preactivations', rows * 2 * units);
    const hidden = saved.activations('hidden', rows * units);
    const toHidden = { N: 2 * units, K: channels };
    segmentProducts([input('x'), weightsOf(gateUp), preactivations], segments, toHidden, false);
    swiGlu(preactivations, hidden, units, limit);
    segmentProducts([hidden, weightsOf(down), y.values], segments, { N: channels, K: units }, false);
    saved.free('hidden');
    return y.info;
  },
  backward({ valuesOf, tensor, saved, attributes }, [dyTensor], [x]) {
    const { segments, gateUp, down, sources, limit = 0 } = attributes;
    const [rows, channels] = x!.shape as [number, number];
    const units = down.shape[2]!;
    const dy = valuesOf(dyTensor!);
    const dx = tensor([rows, channels]);
    // Each becomes the other of its shape: preactivations their gradient, and the gradient of the hidden units these.
    const preactivations = saved.activations('preactivations');
    const hidden = saved.activations('hidden', rows * units);
    segmentProducts([dy, weightsOf(down), hidden], segments, { N: units, K: channels }, true);
    const gradients = { dPreactivations: preactivations, hidden };
    swiGluBackward({ preactivations, dHidden: hidden }, gradients, units, limit);
    const toInput = { N: channels, K: 2 * units };
    segmentProducts([preactivations, weightsOf(gateUp), dx.values], segments, toInput, true);
    for (let source = 0; source < sources; source++) {
      const own = segments.filter((segment) => segment.source === source && segment.count > 0);
      contributeSegments(down, [dy, hidden], own, source);
      contributeSegments(gateUp, [preactivations, valuesOf(x!)], own, source);
    }
    return { x: dx.tensor };
  },
});

/** The gradient [E, O, C] of experts' weights from the rows [M, O] and [M, C] of a source's segments. */
function contributeSegments(
  weight: Parameter,
  [dy, x]: readonly [DeviceArray<'bf16'>, DeviceArray<'bf16'>],
  segments: readonly ExpertSegment[],
  source: number,
): void {
  const [, outputs, inputs] = weight.shape as [number, number, number];
  const size = outputs * inputs;
  weight.contribute((target) => {
    const { accumulate } = target;
    const sums = masterOf(target);
    // Experts without rows have no product.
    if (!accumulate) fill(sums, 0);
    for (const { expert, begin, count } of segments) {
      const rows = (array: DeviceArray<'bf16'>, width: number) =>
        array.subarray(begin * width, (begin + count) * width);
      const shape = { M: outputs, N: inputs, K: count };
      const sum = sums.subarray(expert * size, (expert + 1) * size);
      matmulTransposed(rows(dy, outputs), rows(x, inputs), sum, shape, { accumulate });
    }
  }, source);
}
