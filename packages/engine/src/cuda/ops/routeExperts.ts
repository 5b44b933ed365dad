import { implementFused } from '../../fused.ts';
import { ROUTER } from '../../ops/routeExperts.ts';
import { routeTokens, routeTokensBackward } from '../routing.ts';
import { CUDA_SIZES } from '../sizes.ts';
import { refuse } from './operands.ts';

implementFused('cuda', ROUTER, {
  forward({ floats, shape, outputFloats, outputIntegers, attributes: options }) {
    const [tokens, experts] = shape('logits') as [number, number];
    const { mostExperts } = CUDA_SIZES;
    if (experts > mostExperts) refuse('router', `it has ${experts} experts, and ${mostExperts} at most`);
    const [weights, auxiliary] = [outputFloats([tokens, options.topK]), outputFloats([])];
    const indices = outputIntegers([tokens, options.topK]);
    const outputs = { weights: weights.values, indices: indices.values, auxiliary: auxiliary.values };
    routeTokens({ logits: floats('logits'), options }, outputs);
    return [weights.info, auxiliary.info, indices.info];
  },
  backward(context, [dWeights, dAuxiliary], [logits, indices]) {
    const { floatsOf, integersOf, tensorOfFloats, attributes: options } = context;
    const dLogits = tensorOfFloats(logits!.shape);
    const gradients = { dWeights: floatsOf(dWeights!), dAuxiliary: floatsOf(dAuxiliary!) };
    const operands = { logits: floatsOf(logits!), options };
    routeTokensBackward(operands, { ...gradients, indices: integersOf(indices!) }, dLogits.values);
    return { logits: dLogits.tensor };
  },
});
