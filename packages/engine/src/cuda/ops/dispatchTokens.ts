import { implementFused } from '../../fused.ts';
import { COMBINE, DISPATCH } from '../../ops/dispatchTokens.ts';
import { combineTokens, combineTokensBackward, dispatchTokens } from '../experts.ts';

implementFused('cuda', DISPATCH, {
  forward({ input, shape, output, attributes: plan }) {
    const y = output([plan.order.length, shape('x')[1]!]);
    dispatchTokens(input('x'), plan, y.values);
    return y.info;
  },
  backward({ valuesOf, tensor, attributes: plan }, [dy]) {
    const [rows, width] = dy!.shape as [number, number];
    const dx = tensor([rows / plan.topK, width]);
    combineTokens(valuesOf(dy!), null, plan, dx.values);
    return { x: dx.tensor };
  },
});

implementFused('cuda', COMBINE, {
  forward({ input, shape, output, attributes: plan }) {
    const [rows, width] = shape('y') as [number, number];
    const out = output([rows / plan.topK, width]);
    combineTokens(input('y'), input('weights'), plan, out.values);
    return out.info;
  },
  backward({ valuesOf, tensor, over, attributes: plan }, [dOut], [y, weights]) {
    const operands = { y: valuesOf(y!), weights: valuesOf(weights!), dOut: valuesOf(dOut!) };
    const [dy, dWeights] = [over(y!), tensor(weights!.shape)];
    combineTokensBackward(operands, plan, { dy: dy.values, dWeights: dWeights.values });
    return { y: dy.tensor, weights: dWeights.tensor };
  },
});
