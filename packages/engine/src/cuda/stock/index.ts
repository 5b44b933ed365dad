/** TensorFlow.js's own operations on `cuda`: by our kernels where they serve, otherwise by its CPU backend on the host. */

import * as tf from '@tensorflow/tfjs';
import { CUDA_BACKEND, type CudaBackend } from '../backend.ts';
import { runOnHost } from '../fallback.ts';
import { copies } from './copies.ts';
import { elementwise } from './elementwise.ts';
import type { StockKernels } from './kernel.ts';
import { matMul } from './matMul.ts';
import { reductions } from './reductions.ts';

export { generatedSources } from './expressions.ts';

const STOCK: StockKernels = { ...elementwise, ...copies, ...reductions, ...matMul };

/** Operations that only hand values on, of any type. */
const OF_ANY_TYPE = ['Identity', 'Reshape', 'ExpandDims'];

const isOnHost = ({ dtype }: tf.TensorInfo) => dtype === 'string' || dtype === 'complex64';

/** Registers every operation that the CPU backend has and `cuda` has not yet. */
export function registerStockKernels(): void {
  for (const stock of tf.getKernelsForBackend('cpu')) {
    const { kernelName } = stock;
    if (tf.getKernel(kernelName, CUDA_BACKEND)) continue;
    const serve = STOCK[kernelName];
    tf.registerKernel({
      kernelName,
      backendName: CUDA_BACKEND,
      kernelFunc(call) {
        const inputs = call.inputs as Readonly<Record<string, tf.TensorInfo>>;
        const attrs = call.attrs ?? {};
        const backend = call.backend as CudaBackend;
        const isServed =
          OF_ANY_TYPE.includes(kernelName) || !Object.values(inputs).some((x) => x && isOnHost(x));
        const served = isServed ? serve?.({ inputs, attrs, backend }) : undefined;
        return served ?? runOnHost(stock, inputs, attrs, backend);
      },
    });
  }
}
