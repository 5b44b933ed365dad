/** Makes `cuda` known to TensorFlow.js. */

import * as tf from '@tensorflow/tfjs';
import { CUDA_BACKEND, CudaBackend } from './backend.ts';
import { openDevice } from './open.ts';
import { registerStockKernels } from './stock/index.ts';

/** @throws SLUICE_E_CUDA where there is no device */
export function registerCudaBackend(): void {
  if (tf.findBackendFactory(CUDA_BACKEND)) return;
  const device = openDevice();
  registerStockKernels();
  tf.registerBackend(CUDA_BACKEND, () => new CudaBackend(device), 0);
}
