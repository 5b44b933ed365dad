import { implementFused, type KernelContext } from '../../fused.ts';
import { DELTA_CONTINUATION, DELTA_RECURRENCE, type RecurrenceLayout } from '../../ops/recurrence.ts';
import {
  deltaRecurrence,
  deltaRecurrenceBackward,
  type RecurrenceOperands,
  takesStates,
} from '../deltaRule.ts';
import { refuse } from './operands.ts';

const NAMES = ['q', 'k', 'v', 'beta', 'decay'] as const;

type Context = KernelContext<RecurrenceLayout, 'cuda'>;

function operandsOf({ floats, attributes: layout }: Context): RecurrenceOperands {
  const { keyDim, valueDim } = layout;
  if (!takesStates(layout)) refuse('delta rule', `states are ${keyDim} × ${valueDim}, and 256 × 256 at most`);
  const [q, k, v, beta, decay] = NAMES.map(floats);
  return { q: q!, k: k!, v: v!, beta: beta!, decay: decay! };
}

const outputShape = ({ batch, sequence, heads, valueDim }: RecurrenceLayout) => [
  batch * sequence,
  heads * valueDim,
];

implementFused('cuda', DELTA_CONTINUATION, {
  forward(context) {
    const { floats, output, outputFloats, shape, attributes: layout } = context;
    const operands = operandsOf(context);
    const [y, after] = [output(outputShape(layout)), outputFloats(shape('before'))];
    const states = { before: floats('before'), after: after.values };
    deltaRecurrence(operands, y.values, layout, states);
    return [y.info, after.info];
  },
  backward() {
    throw new Error('A sequence that is continued has no gradient.');
  },
});

implementFused('cuda', DELTA_RECURRENCE, {
  forward(context) {
    const operands = operandsOf(context);
    const y = context.output(outputShape(context.attributes));
    deltaRecurrence(operands, y.values, context.attributes);
    return y.info;
  },
  backward({ valuesOf, floatsOf, tensorOfFloats, attributes: layout }, [dy], tensors) {
    const [q, k, v, beta, decay] = tensors.map(floatsOf);
    const made = tensors.map(({ shape }) => tensorOfFloats(shape));
    const [dq, dk, dv, dBeta, dDecay] = made.map(({ values }) => values);
    const operands = { q: q!, k: k!, v: v!, beta: beta!, decay: decay!, dy: valuesOf(dy!) };
    const gradients = { q: dq!, k: dk!, v: dv!, beta: dBeta!, decay: dDecay! };
    deltaRecurrenceBackward(operands, gradients, layout);
    return Object.fromEntries(NAMES.map((name, i) => [name, made[i]!.tensor]));
  },
});
