/**
 * Linear layer without bias: y = x·Wᵀ (as in PyTorch and Hugging Face, weights are [out, in]).
 * Shapes: N tokens, C input channels, O output channels.
 */

import * as tf from '@tensorflow/tfjs';
import { hostArray } from '../flatMemory.ts';
import { fusedOperation, hasFused, implementFused, runFused } from '../fused.ts';
import { matrixProduct } from '../matrixProduct.ts';
import type { Parameter } from '../parameter.ts';

/**
 * `activations`: whatever precision these have on the backend. `single`: weights and results are in single precision in any case.
 * `results`: these are, and weights are taken as they are kept.
 */
export type LinearPrecision = 'activations' | 'single' | 'results';

/** In which precision a parameter is read. */
export type WeightPrecision = 'activations' | 'single';

/** Whether tensor cores take a layer with weights of this shape: what has other widths reads them in single precision. */
export function suitsTensorCores(shape: readonly number[]): boolean {
  return shape.every((width) => width % 8 === 0);
}

interface Attributes {
  readonly weight: Parameter;
  readonly precision: LinearPrecision;
}

export const LINEAR = fusedOperation<Attributes>({
  name: 'SluiceLinear',
  inputsToSave: ['x'],
});

/**
 * @param x_NC activations
 * @param weight shape [O, C]
 * @param precision `single` or `results` where small differences between the results decide something
 * @returns [N, O]
 */
export function linear(
  x_NC: tf.Tensor2D,
  weight: Parameter,
  precision: LinearPrecision = 'activations',
): tf.Tensor2D {
  if (!hasFused(LINEAR)) return tf.tidy(() => linearReference(x_NC, weight.onTape() as tf.Tensor2D));
  return runFused(LINEAR, { x: x_NC }, { weight, precision });
}

export function linearReference(x_NC: tf.Tensor2D, weight_OC: tf.Tensor2D): tf.Tensor2D {
  return tf.matMul(x_NC, weight_OC, false, true);
}

implementFused('native', LINEAR, {
  forward({ input, shape, output, attributes: { weight } }) {
    const [rows, depth] = shape('x') as [number, number];
    const columns = weight.shape[0]!;
    const y = output([rows, columns]);
    matrixProduct(input('x'), hostArray(weight.values), y.values, {
      rows,
      columns,
      depth,
      transposeB: true,
    });
    return y.info;
  },
  backward({ valuesOf, tensor, attributes: { weight } }, [dy], [x]) {
    const [tokens, inputs] = x!.shape as [number, number];
    const outputs = weight.shape[0]!;
    const dx = tensor([tokens, inputs]);
    const dyValues = valuesOf(dy!);
    matrixProduct(dyValues, hostArray(weight.values), dx.values, {
      rows: tokens,
      columns: inputs,
      depth: outputs,
    });
    weight.contribute(({ values, accumulate }) => {
      const sizes = { rows: outputs, columns: inputs, depth: tokens };
      matrixProduct(dyValues, valuesOf(x!), hostArray(values), {
        ...sizes,
        transposeA: true,
        beta: accumulate ? 1 : 0,
      });
    });
    return { x: dx.tensor };
  },
});
