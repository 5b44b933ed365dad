/** TensorFlow.js's plain kernels as a backend whose values, as on WebGPU, can only be awaited. */

import { BACKENDS, type Backend } from '@sluice/engine';
import * as tf from '@tensorflow/tfjs';
import { MathBackendCPU } from '@tensorflow/tfjs-backend-cpu';

export const AWAITED = 'awaited';

class AwaitedBackend extends MathBackendCPU {
  /** Kernels get at values, nobody else does. */
  override readSync(dataId: object): tf.backend_util.BackendValues {
    if (tf.engine().state.kernelDepth === 0) throw new Error('values can only be awaited');
    return super.readSync(dataId);
  }

  override async read(dataId: object): Promise<tf.backend_util.BackendValues> {
    await new Promise(setImmediate);
    return super.readSync(dataId);
  }
}

/** Makes the backend one that `selectBackend` finds. */
export function registerAwaitedBackend(): void {
  const backend: Backend = {
    ...BACKENDS.cpu,
    readsSynchronously: false,
    async load() {
      for (const kernel of tf.getKernelsForBackend('cpu'))
        tf.registerKernel({ ...kernel, backendName: AWAITED });
      tf.registerBackend(AWAITED, () => new AwaitedBackend());
    },
  };
  Object.assign(BACKENDS, { [AWAITED]: backend });
}
