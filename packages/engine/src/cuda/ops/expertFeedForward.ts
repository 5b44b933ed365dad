import { implementFused } from '../../fused.ts';
import { EXPERT_FEED_FORWARD, type ExpertSegment } from '../../ops/expertFeedForward.ts';
import type { Parameter } from '../../parameter.ts';
import type { DeviceArray } from '../device.ts';
import { expertGradients, expertProducts } from '../experts.ts';
import { swiGlu, swiGluBackward } from '../operations.ts';
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
    expertProducts([input('x'), weightsOf(gateUp), preactivations], segments, toHidden);
    swiGlu(preactivations, hidden, units, limit);
    expertProducts([hidden, weightsOf(down), y.values], segments, { N: channels, K: units });
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
    const plain = { isPlain: true };
    expertProducts([dy, weightsOf(down), hidden], segments, { N: units, K: channels }, plain);
    const gradients = { dPreactivations: preactivations, hidden };
    swiGluBackward({ preactivations, dHidden: hidden }, gradients, units, limit);
    const toInput = { N: channels, K: 2 * units };
    expertProducts([preactivations, weightsOf(gateUp), dx.values], segments, toInput, plain);
    for (let source = 0; source < sources; source++) {
      const own = segments.filter((segment) => segment.source === source);
      contributeSegments(down, [dy, hidden], own, source);
      contributeSegments(gateUp, [preactivations, valuesOf(x!)], own, source);
    }
    return { x: dx.tensor };
  },
});

/** The gradient [E, O, C] of experts' weights from the rows [M, O] and [M, C] of a source's segments. */
function contributeSegments(
  weight: Parameter,
  rows: readonly [DeviceArray<'bf16'>, DeviceArray<'bf16'>],
  segments: readonly ExpertSegment[],
  source: number,
): void {
  const [, M, N] = weight.shape as [number, number, number];
  weight.contribute((target) => {
    const { accumulate } = target;
    expertGradients(rows, masterOf(target), segments, { M, N }, { accumulate });
  }, source);
}
