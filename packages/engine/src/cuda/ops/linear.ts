/**
 * On tensor cores where these take the rows, that is multiples of 8. Other widths, and layers whose results are to be in single
 * precision, go by the product of TensorFlow.js's own operations; but where all activations are, by that of their kernels.
 */

import { implementFused } from '../../fused.ts';
import { LINEAR, type LinearPrecision, suitsTensorCores } from '../../ops/linear.ts';
import type { GradientTarget, Parameter } from '../../parameter.ts';
import { cudaBackend, type TensorArray } from '../backend.ts';
import type { Activations } from '../device.ts';
import { sumTree } from '../flatArithmetic.ts';
import { matmul, matmulPlain } from '../products.ts';
import { floatProducts } from '../stock/matMul.ts';
import { keptOf, masterOf, weightsOf } from '../weights.ts';
import { contributeProduct } from './operands.ts';

/** Whether the kernels for activations take the layer. */
function isUsual({ shape }: Parameter, precision: LinearPrecision): boolean {
  if (cudaBackend().precision === 'f32') return true;
  return precision === 'activations' && suitsTensorCores(shape);
}

function floatsOf(weight: Parameter, precision: LinearPrecision): Activations {
  return precision === 'results' ? keptOf(weight) : masterOf(weight);
}

implementFused('cuda', LINEAR, {
  forward({ input, shape, output, attributes: { weight, precision } }) {
    const [M, K] = shape('x') as [number, number];
    const N = weight.shape[0]!;
    const x = input('x');
    if (isUsual(weight, precision)) {
      const y = output([M, N]);
      matmul(x, weightsOf(weight), y.values, { M, N, K });
      return y.info;
    }
    const y = precision === 'activations' ? output([M, N]) : cudaBackend().allocate([M, N], 'f32');
    floatProducts([x, floatsOf(weight, precision), y.values], { M, N, K, a: [K, 1], b: [1, K] });
    return y.info;
  },
  backward({ valuesOf, tensor, attributes: { weight, precision } }, [dyTensor], [xTensor]) {
    const [M, N] = xTensor!.shape as [number, number];
    const K = weight.shape[0]!;
    const dx = tensor([M, N]);
    const x = valuesOf(xTensor!);
    if (isUsual(weight, precision)) {
      const dy = valuesOf(dyTensor!);
      matmulPlain(dy, weightsOf(weight), dx.values, { M, N, K });
      contributeProduct(weight, dy, x, M);
    } else {
      // In the precision that it has.
      const dy = cudaBackend().valuesOf(dyTensor!);
      floatProducts([dy, floatsOf(weight, precision), dx.values], { M, N, K, a: [K, 1], b: [N, 1] });
      weight.contribute((target) => addProduct(target, dy, x, { tokens: M, outputs: K, inputs: N }));
    }
    return { x: dx.tensor };
  },
});

/** dyᵀ [O, N] · x [N, C], written or added. */
function addProduct(
  target: GradientTarget,
  dy: TensorArray,
  x: TensorArray,
  { tokens, outputs, inputs }: Readonly<Record<'tokens' | 'outputs' | 'inputs', number>>,
): void {
  const sum = masterOf(target);
  const product = target.accumulate ? sum.device.allocate(sum.length, 'f32') : sum;
  const steps = { M: outputs, N: inputs, K: tokens, a: [1, outputs], b: [inputs, 1] } as const;
  floatProducts([dy, x, product], steps);
  if (product === sum) return;
  sumTree(sum, [sum, product]);
  sum.device.free(product);
}
