/** Small arrays of the host that kernels need in every layer, such as tables of angles: they stay on the device while they are used. */

import type { CudaDevice, DeviceArray } from './device.ts';

/** Those that were used last. */
const MOST_COPIES = 32;

const copies = new WeakMap<CudaDevice, Map<unknown, DeviceArray>>();

/**
 * What `upload` gave for this key, if it is there still. It is given back when enough others were used since.
 * @param key an array whose values never change, or a text that says what the values are
 */
export function keptCopy<A extends DeviceArray>(device: CudaDevice, key: unknown, upload: () => A): A {
  const kept = copies.get(device) ?? new Map<unknown, DeviceArray>();
  copies.set(device, kept);
  const copy = (kept.get(key) as A | undefined) ?? upload();
  // What was used last comes last.
  kept.delete(key);
  kept.set(key, copy);
  if (kept.size > MOST_COPIES) {
    const [oldest, array] = kept.entries().next().value!;
    kept.delete(oldest);
    device.free(array);
  }
  return copy;
}

/** Whose memory is given back as a whole. */
export function forgetCopies(device: CudaDevice): void {
  copies.delete(device);
}
