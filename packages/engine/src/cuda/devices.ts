/** The GPUs of a machine by the CUDA driver's C interface: none is opened, and nothing is computed on any. */

import koffi from 'koffi';

/** As the driver numbers them, from 0 on: by this number CUDA_VISIBLE_DEVICES names one. */
export interface CudaDeviceInfo {
  readonly name: string;
  /** As NVIDIA's tools write it, with which CUDA_VISIBLE_DEVICES may name it, too: `GPU-…`, or `MIG-…` of a part of one. */
  readonly uuid: string;
  readonly memoryBytes: number;
  /** What it can compute, such as 9 for Hopper. */
  readonly computeCapability: number;
}

/** Of `CUdevice_attribute`. */
const [MAJOR, MINOR] = [75, 76];
/** Of results. */
const NO_DEVICE = 100;
const NAME_BYTES = 256;

/**
 * Those that CUDA_VISIBLE_DEVICES shows, or all where it is not set. A driver that is broken may hang: call it in a process of its own.
 * @param library file name, or path, of the driver's
 * @throws Error where there is no such library, or it fails
 */
export function cudaDevices(library: string): CudaDeviceInfo[] {
  const opened = koffi.load(library);
  const call = (name: string, types: string[], ...args: unknown[]) => {
    const code = opened.func(name, 'int', types)(...args) as number;
    if (code !== 0) throw new CudaCallError(name, code);
  };
  const integer = (name: string, types: string[], ...args: number[]) => {
    const value = new Int32Array(1);
    call(name, ['void *', ...types], value, ...args);
    return value[0]!;
  };
  try {
    call('cuInit', ['uint'], 0);
  } catch (error) {
    if (error instanceof CudaCallError && error.result === NO_DEVICE) return [];
    throw error;
  }
  return Array.from({ length: integer('cuDeviceGetCount', []) }, (_, number) => {
    const device = integer('cuDeviceGet', ['int'], number);
    const attribute = (which: number) => integer('cuDeviceGetAttribute', ['int', 'int'], which, device);
    const name = new Uint8Array(NAME_BYTES);
    call('cuDeviceGetName', ['void *', 'int', 'int'], name, NAME_BYTES, device);
    const uuidOf = (version: string) => {
      const uuid = new Uint8Array(16);
      call(version, ['void *', 'int'], uuid, device);
      return Buffer.from(uuid).toString('hex');
    };
    // Of a part, the first is that of the GPU that it is of.
    const [whole, own] = [uuidOf('cuDeviceGetUuid'), uuidOf('cuDeviceGetUuid_v2')];
    const bytes = new BigUint64Array(1);
    call('cuDeviceTotalMem_v2', ['void *', 'int'], bytes, device);
    return {
      name: Buffer.from(name.subarray(0, name.indexOf(0))).toString('utf8'),
      uuid: uuidText(own === whole ? 'GPU' : 'MIG', own),
      memoryBytes: Number(bytes[0]),
      computeCapability: attribute(MAJOR) + attribute(MINOR) / 10,
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
