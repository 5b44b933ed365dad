import { implementFused, type KernelContext } from '../../fused.ts';
import { DELTA_CONTINUATION, DELTA_RECURRENCE, type RecurrenceLayout } from '../../ops/recurrence.ts';
import { cudaBackend } from '../backend.ts';
import { deltaRule, deltaRuleBackward, takesStates } from '../deltaRule.ts';
import { CHUNK, takesChunks } from '../deltaRuleMemory.ts';
import type { RecurrenceOperands } from '../recurrenceOperands.ts';
import { refuse } from './operands.ts';

/** Those in the precision of activations where chunks take them, and those in single precision. */
const [VECTORS, GATES] = [['q', 'k', 'v'] as const, ['beta', 'g'] as const];
const NAMES = [...VECTORS, ...GATES];

const isInChunks = (layout: RecurrenceLayout) => takesChunks(layout, cudaBackend().precision);

function operandsOf(
  { input, floats, attributes: layout }: KernelContext<RecurrenceLayout, 'cuda'>,
  isInChunks: boolean,
): RecurrenceOperands {
  const { keyDim, valueDim } = layout;
  if (!takesStates(layout)) refuse('delta rule', `states are ${keyDim} × ${valueDim}, and 256 × 256 at most`);
  const [q, k, v] = VECTORS.map(isInChunks ? input : floats);
  const [beta, g] = GATES.map(floats);
  return { q: q!, k: k!, v: v!, beta: beta!, g: g! };
}

const outputShape = ({ batch, sequence, heads, valueDim }: RecurrenceLayout) => [
  batch * sequence,
  heads * valueDim,
];

implementFused('cuda', DELTA_CONTINUATION, {
  forward(context) {
    const { floats, output, outputFloats, shape, attributes: layout } = context;
    // A few tokens, as generation has them, would fill no chunk.
    const operands = operandsOf(context, isInChunks(layout) && layout.sequence >= CHUNK);
    const [y, after] = [output(outputShape(layout)), outputFloats(shape('before'))];
    const states = { before: floats('before'), after: after.values };
    deltaRule(operands, y.values, layout, states);
    return [y.info, after.info];
  },
  backward() {
    throw new Error('A sequence that is continued has no gradient.');
  },
});

implementFused('cuda', DELTA_RECURRENCE, {
  forward(context) {
    const { output, attributes: layout } = context;
    const operands = operandsOf(context, isInChunks(layout));
    const y = output(outputShape(layout));
    deltaRule(operands, y.values, layout);
    return y.info;
  },
  backward({ valuesOf, floatsOf, tensor, tensorOfFloats, attributes: layout }, [dy], tensors) {
    const [vectors, gates] = [tensors.slice(0, VECTORS.length), tensors.slice(VECTORS.length)];
    const inChunks = isInChunks(layout);
    const [q, k, v] = vectors.map(inChunks ? valuesOf : floatsOf);
    const [beta, g] = gates.map(floatsOf);
    const [dq, dk, dv] = vectors.map(({ shape }) => (inChunks ? tensor : tensorOfFloats)(shape));
    const [dBeta, dG] = gates.map(({ shape }) => tensorOfFloats(shape));
    const operands = { q: q!, k: k!, v: v!, beta: beta!, g: g!, dy: valuesOf(dy!) };
    const made = { q: dq!, k: dk!, v: dv!, beta: dBeta!, g: dG! };
    const gradients = {
      ...{ q: made.q.values, k: made.k.values, v: made.v.values },
      ...{ beta: made.beta.values, g: made.g.values },
    };
    deltaRuleBackward(operands, gradients, layout);
    return Object.fromEntries(NAMES.map((name) => [name, made[name].tensor]));
  },
});
