/** Kernels of ours in place of TensorFlow.js's own. */

import * as tf from '@tensorflow/tfjs';
import { keepMemoryApart, NATIVE_BACKEND, type NativeBackend } from './backend.ts';

/** The call of a kernel on the native backend. */
export interface KernelCall {
  readonly inputs: tf.NamedTensorInfoMap;
  readonly attrs: tf.NamedAttrMap;
  readonly backend: NativeBackend;
}

/**
 * Serves the operation `kernelName` by `serve` on the native backend, and by the stock kernel where `serve` gives undefined.
 */
export function overrideKernel(
  kernelName: string,
  serve: (call: KernelCall) => tf.TensorInfo | tf.TensorInfo[] | undefined,
): void {
  const stock = keepMemoryApart(tf.getKernel(kernelName, 'cpu')!.kernelFunc);
  tf.registerKernel({
    kernelName,
    backendName: NATIVE_BACKEND,
    kernelFunc: (call) => serve(call as unknown as KernelCall) ?? stock(call),
  });
}
