import { implementFused } from '../../fused.ts';
import { GATED_FEED_FORWARD } from '../../ops/gatedFeedForward.ts';
import { swiGlu, swiGluBackward } from '../operations.ts';
import { matmul, matmulPlain } from '../products.ts';
import { weightsOf } from '../weights.ts';
import { checkWidths, contributeProduct } from './operands.ts';

implementFused('cuda', GATED_FEED_FORWARD, {
  forward({ input, shape, output, saved, attributes: { gateUp, down, limit = 0 } }) {
    const [tokens, channels] = shape('x') as [number, number];
    const units = down.shape[1]!;
    checkWidths('gated feed-forward', { channels, 'hidden units': units });
    const y = output([tokens, channels]);
    const preactivations = saved.activations('preactivations', tokens * 2 * units);
    const hidden = saved.activations('hidden', tokens * units);
    matmul(input('x'), weightsOf(gateUp), preactivations, { M: tokens, N: 2 * units, K: channels });
    swiGlu(preactivations, hidden, units, limit);
    matmul(hidden, weightsOf(down), y.values, { M: tokens, N: channels, K: units });
    saved.free('hidden');
    return y.info;
  },
  backward({ valuesOf, tensor, saved, attributes: { gateUp, down, limit = 0 } }, [dyTensor], [x]) {
    const [tokens, channels] = x!.shape as [number, number];
    const units = down.shape[1]!;
    const dy = valuesOf(dyTensor!);
    const dx = tensor([tokens, channels]);
    // Each becomes the other of its shape: preactivations their gradient, and the gradient of the hidden units these.
    const preactivations = saved.activations('preactivations');
    const hidden = saved.activations('hidden', tokens * units);
    matmulPlain(dy, weightsOf(down), hidden, { M: tokens, N: units, K: channels });
    swiGluBackward(
      { preactivations, dHidden: hidden },
      { dPreactivations: preactivations, hidden },
      units,
      limit,
    );
    contributeProduct(down, dy, hidden, tokens);
    matmulPlain(preactivations, weightsOf(gateUp), dx.values, { M: tokens, N: channels, K: 2 * units });
    contributeProduct(gateUp, preactivations, valuesOf(x!), tokens);
    return { x: dx.tensor };
  },
});
