import { implementFused } from '../../fused.ts';
import { LINEAR } from '../../ops/linear.ts';
import { matmul, matmulPlain } from '../operations.ts';
import { weightsOf } from '../weights.ts';
import { checkWidths, contributeProduct } from './operands.ts';

implementFused('cuda', LINEAR, {
  forward({ input, shape, output, attributes: { weight } }) {
    const [rows, inputs] = shape('x') as [number, number];
    const outputs = weight.shape[0]!;
    checkWidths('linear layer', { inputs, outputs });
    const y = output([rows, outputs]);
    matmul(input('x'), weightsOf(weight), y.values, { M: rows, N: outputs, K: inputs });
    return y.info;
  },
  backward({ valuesOf, tensor, attributes: { weight } }, [dyTensor], [x]) {
    const [tokens, inputs] = x!.shape as [number, number];
    const dy = valuesOf(dyTensor!);
    const dx = tensor([tokens, inputs]);
    matmulPlain(dy, weightsOf(weight), dx.values, { M: tokens, N: inputs, K: weight.shape[0]! });
    contributeProduct(weight, dy, valuesOf(x!), tokens);
    return { x: dx.tensor };
  },
});
