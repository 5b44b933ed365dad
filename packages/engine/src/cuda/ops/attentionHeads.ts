import { implementFused } from '../../fused.ts';
import { ATTENTION_HEADS } from '../../ops/attentionHeads.ts';
import { type AttentionLayout, gateWidth } from '../../ops/attentionLayout.ts';
import { withTarget } from '../../ops/withTarget.ts';
import type { GradientTarget, Parameter } from '../../parameter.ts';
import { attentionHeads, attentionHeadsBackward, type Heads } from '../attentionHeads.ts';
import type { Activations } from '../device.ts';
import { masterOf } from '../weights.ts';
import { refuse, rotationOf } from './operands.ts';

type Arrays = [Activations, Activations, Activations, Activations?];

const gainOf = (norm: Parameter | null) => norm && masterOf(norm);

/** From what is there in the order of the operation's outputs. */
function asHeads([q, k, v, gate]: Arrays): Heads {
  return { q, k, v, gate: gate ?? null };
}

function widthsOf(layout: AttentionLayout): number[] {
  const { heads, keyValueHeads, headDim, gate } = layout;
  const widths = [heads * headDim, keyValueHeads * headDim, keyValueHeads * headDim];
  return gate === 'none' ? widths : [...widths, gateWidth(layout)];
}

implementFused('cuda', ATTENTION_HEADS, {
  forward({ input, output, attributes: { qNorm, kNorm, rotary, layout } }) {
    const { batch, sequence, headDim } = layout;
    if (headDim % 4 !== 0 || headDim > 256) {
      refuse('attention', `heads have ${headDim} channels, which is no multiple of 4 up to 256`);
    }
    const projection = input('projection');
    const outputs = widthsOf(layout).map((width) => output([batch * sequence, width]));
    const gains = { qGain: gainOf(qNorm), kGain: gainOf(kNorm) };
    const heads = asHeads(outputs.map(({ values }) => values) as Arrays);
    attentionHeads({ projection, ...gains, ...rotationOf(projection.device, rotary, layout) }, heads, layout);
    return outputs.map(({ info }) => info);
  },
  backward({ valuesOf, tensor, attributes: { qNorm, kNorm, rotary, layout } }, dys, [projectionTensor]) {
    const projection = valuesOf(projectionTensor!);
    const dProjection = tensor(projectionTensor!.shape);
    const gains = { qGain: gainOf(qNorm), kGain: gainOf(kNorm) };
    const operands = { projection, ...gains, ...rotationOf(projection.device, rotary, layout) };
    const dHeads = asHeads(dys.map(valuesOf) as Arrays);
    const gradient = (target: GradientTarget | null) =>
      target && { values: masterOf(target), accumulate: target.accumulate };
    withTarget(qNorm, (dqNorm) =>
      withTarget(kNorm, (dkNorm) => {
        const dGains = { dqGain: gradient(dqNorm), dkGain: gradient(dkNorm) };
        attentionHeadsBackward(operands, dHeads, { dProjection: dProjection.values, ...dGains }, layout);
      }),
    );
    return { projection: dProjection.tensor };
  },
});
