import { implementFused } from '../../fused.ts';
import { COMBINE, DISPATCH, PLAN } from '../../ops/dispatchTokens.ts';
import { combineTokens, combineTokensBackward, dispatchTokens } from '../experts.ts';
import { planRows } from '../routing.ts';

implementFused('cuda', PLAN, {
  forward({ integers, outputIntegers, attributes: { numExperts } }) {
    const indices = integers('indices');
    const [order, position] = [outputIntegers([indices.length]), outputIntegers([indices.length])];
    const counts = outputIntegers([numExperts]);
    planRows(indices, { order: order.values, position: position.values, counts: counts.values });
    return [order.info, position.info, counts.info];
  },
  backward: () => ({}),
});

implementFused('cuda', DISPATCH, {
  forward({ input, integers, shape, output, attributes: { topK } }) {
    const order = integers('order');
    const y = output([order.length, shape('x')[1]!]);
    dispatchTokens(input('x'), order, y.values, topK);
    return y.info;
  },
  backward({ valuesOf, integersOf, tensor, attributes: { topK } }, [dy], [, , position]) {
    const [rows, width] = dy!.shape as [number, number];
    const dx = tensor([rows / topK, width]);
    combineTokens(valuesOf(dy!), null, integersOf(position!), dx.values, topK);
    return { x: dx.tensor };
  },
});

implementFused('cuda', COMBINE, {
  forward({ input, floats, integers, shape, output, attributes: { topK } }) {
    const [rows, width] = shape('y') as [number, number];
    const out = output([rows / topK, width]);
    combineTokens(input('y'), floats('weights'), integers('position'), out.values, topK);
    return out.info;
  },
  backward(context, [dOut], [y, weights, order]) {
    const { valuesOf, floatsOf, integersOf, tensorOfFloats, over } = context;
    const operands = { y: valuesOf(y!), weights: floatsOf(weights!), dOut: valuesOf(dOut!) };
    const [dy, dWeights] = [over(y!), tensorOfFloats(weights!.shape)];
    const gradients = { dy: dy.values, dWeights: dWeights.values };
    combineTokensBackward({ ...operands, order: integersOf(order!) }, gradients, context.attributes.topK);
    return { y: dy.tensor, weights: dWeights.tensor };
  },
});
