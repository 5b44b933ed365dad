/**
 * TensorFlow.js's kernels that have no counterpart on a device: their inputs are read, its own CPU backend computes, and the outputs
 * are written. That is slow, so it is said once for each.
 */

import * as tf from '@tensorflow/tfjs';
import { MathBackendCPU } from '@tensorflow/tfjs-backend-cpu';
import type { CudaBackend } from './backend.ts';
import { convert } from './stock/kernel.ts';

interface StoredOnHost {
  readonly values: tf.backend_util.BackendValues;
  readonly dtype: tf.DataType;
  refCount: number;
  readonly complexTensorInfos?: { readonly real: tf.TensorInfo; readonly imag: tf.TensorInfo };
}

class HostBackend extends MathBackendCPU {
  get #storage(): tf.DataStorage<StoredOnHost> {
    return this.data as unknown as tf.DataStorage<StoredOnHost>;
  }

  /** As in the plain backend, but without its advice to install another. */
  override write(values: tf.backend_util.BackendValues, _shape: number[], dtype: tf.DataType): object {
    const dataId = {};
    this.#storage.set(dataId, { values, dtype, refCount: 1 });
    return dataId;
  }

  /** A tensor with values of its own. */
  put(values: tf.backend_util.BackendValues, shape: number[], dtype: tf.DataType): tf.TensorInfo {
    if (dtype !== 'complex64') return this.makeTensorInfo(shape, dtype, values);
    const { real, imag } = tf.backend_util.splitRealAndImagArrays(values as Float32Array);
    const info = this.makeTensorInfo(shape, dtype);
    const parts = { real: this.put(real, shape, 'float32'), imag: this.put(imag, shape, 'float32') };
    Object.assign(this.#storage.get(info.dataId), { complexTensorInfos: parts });
    return info;
  }
}

const host = new HostBackend();
const warned = new Set<string>();

/** Inputs of a kernel; some are lists. */
type Input = tf.TensorInfo | readonly tf.TensorInfo[] | null | undefined;
type Inputs = Readonly<Record<string, Input>> | readonly tf.TensorInfo[];

function warn(kernelName: string, inputs: readonly tf.TensorInfo[]): void {
  // Strings are on the host in any case, and constants come from there.
  const isBroughtBack = inputs.length > 0 && !inputs.some(({ dtype }) => dtype === 'string');
  if (!isBroughtBack || warned.has(kernelName)) return;
  warned.add(kernelName);
  process.emitWarning(
    `cuda: ${kernelName} has no kernel for GPUs here, or not for these operands: values are copied to the host, computed there, and copied back.`,
  );
}

/** A result of the host on the device, stored as if it had been computed there. */
function brought(
  backend: CudaBackend,
  values: tf.backend_util.BackendValues,
  { shape, dtype }: tf.TensorInfo,
  inputs: readonly tf.TensorInfo[],
): tf.TensorInfo {
  const info = backend.upload(values, shape, dtype);
  if (dtype !== 'float32' || inputs.length === 0) return info;
  const y = backend.allocateResult(shape, dtype, ...inputs);
  convert(backend.valuesOf(info), y.values);
  backend.disposeData(info.dataId);
  return y.info;
}

/** Runs the CPU backend's kernel on values of the device. */
export function runOnHost(
  kernel: tf.KernelConfig,
  inputs: Inputs,
  attrs: tf.NamedAttrMap,
  backend: CudaBackend,
): tf.TensorInfo | tf.TensorInfo[] {
  const given = Object.values(inputs)
    .flat()
    .filter((input): input is tf.TensorInfo => input != null);
  warn(kernel.kernelName, given);
  const used: tf.TensorInfo[] = [];
  const put = ({ dataId, shape, dtype }: tf.TensorInfo): tf.TensorInfo => {
    const info = host.put(backend.readSync(dataId), [...shape], dtype);
    used.push(info);
    // Some kernels ask for a tensor's rank.
    return Object.assign(info, { rank: shape.length });
  };
  const operand = (input: Input) => (input == null ? input : 'dataId' in input ? put(input) : input.map(put));
  const operands = Object.fromEntries(
    Object.entries(inputs).map(([name, input]) => [name, operand(input as Input)]),
  );
  try {
    const named: unknown = Array.isArray(inputs) ? Object.values(operands) : operands;
    const outputs = kernel.kernelFunc({
      inputs: named as tf.NamedTensorInfoMap,
      attrs,
      backend: host,
    });
    const results = [outputs].flat();
    used.push(...results);
    const infos = results.map((result) => brought(backend, host.readSync(result.dataId), result, given));
    return Array.isArray(outputs) ? infos : infos[0]!;
  } finally {
    for (const { dataId } of used) host.disposeData(dataId, true);
  }
}
