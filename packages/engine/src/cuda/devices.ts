/** The GPUs of a machine by the CUDA driver's C interface: none is opened, and nothing is computed on any. */

import koffi from 'koffi';
import { deviceFunctions } from './driverFunctions.ts';
import { CUDA, LAYOUTS } from './header.ts';

/** As the driver numbers them, from 0 on: by this number CUDA_VISIBLE_DEVICES names one. */
export interface CudaDeviceInfo {
  readonly name: string;
  /** As NVIDIA's tools write it, with which CUDA_VISIBLE_DEVICES may name it, too: `GPU-…`, or `MIG-…` of a part of one. */
  readonly uuid: string;
  readonly memoryBytes: number;
  /** What it can compute, such as 9 for Hopper. */
  readonly computeCapability: number;
}

const NAME_BYTES = 256;

/**
 * Those that CUDA_VISIBLE_DEVICES shows, or all where it is not set. A driver that is broken may hang: call it in a process of its own.
 * @param library file name, or path, of the driver's
 * @throws Error where there is no such library, or it fails
 */
export function cudaDevices(library: string): CudaDeviceInfo[] {
  const functions = deviceFunctions(koffi.load(library));
  type Name = keyof typeof functions;
  const call = (name: Name, ...args: unknown[]) => {
    const code = functions[name](...args);
    if (code !== 0) throw new CudaCallError(name, code);
  };
  const integer = (name: Name, ...args: number[]) => {
    const value = new Int32Array(1);
    call(name, value, ...args);
    return value[0]!;
  };
  try {
    call('cuInit', 0);
  } catch (error) {
    if (error instanceof CudaCallError && error.result === CUDA.CUDA_ERROR_NO_DEVICE) return [];
    throw error;
  }
  return Array.from({ length: integer('cuDeviceGetCount') }, (_, number) => {
    const device = integer('cuDeviceGet', number);
    const capability = (part: 'MAJOR' | 'MINOR') =>
      integer('cuDeviceGetAttribute', CUDA[`CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_${part}`], device);
    const name = new Uint8Array(NAME_BYTES);
    call('cuDeviceGetName', name, NAME_BYTES, device);
    const uuidBy = (version: Name) => {
      const uuid = new Uint8Array(LAYOUTS.CUuuid.bytes);
      call(version, uuid, device);
      return Buffer.from(uuid).toString('hex');
    };
    const [whole, own] = [uuidBy('cuDeviceGetUuid'), uuidBy('cuDeviceGetOwnUuid')];
    const bytes = new BigUint64Array(1);
    call('cuDeviceTotalMem', bytes, device);
    return {
      name: Buffer.from(name.subarray(0, name.indexOf(0))).toString('utf8'),
      uuid: uuidText(own === whole ? 'GPU' : 'MIG', own),
      memoryBytes: Number(bytes[0]),
      computeCapability: capability('MAJOR') + capability('MINOR') / 10,
    };
  });
}

class CudaCallError extends Error {
  /** A `CUresult`. */
  readonly result: number;

  constructor(name: string, result: number) {
    super(`${name} failed with error ${result}`);
    this.result = result;
  }
}

function uuidText(kind: 'GPU' | 'MIG', hex: string): string {
  return `${kind}-${hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')}`;
}
