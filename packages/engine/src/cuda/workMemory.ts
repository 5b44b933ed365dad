/** Memory that an operation works in, and gives back when it ends. */

import type { CudaDevice, DeviceArray } from './device.ts';
import { bytesOf, type Storage } from './kernelSource.ts';
import { arenaBytes } from './memorySizes.ts';

/** Arrays by their names: of each how many values, of what kind. */
export type WorkLengths = Readonly<Record<string, readonly [length: number, storage: Storage]>>;

export type WorkArrays<L extends WorkLengths> = { readonly [Name in keyof L]: DeviceArray<L[Name][1]> };

export function allocateWork<L extends WorkLengths>(device: CudaDevice, lengths: L): WorkArrays<L> {
  const arrays = Object.entries(lengths).map(([name, [length, storage]]) => [
    name,
    device.allocate(length, storage),
  ]);
  return Object.fromEntries(arrays) as WorkArrays<L>;
}

export function freeWork(device: CudaDevice, work: Readonly<Record<string, DeviceArray>>): void {
  for (const array of Object.values(work)) device.free(array);
}

/** What they take of a device's arena. */
export function workBytes(lengths: WorkLengths): number {
  return Object.values(lengths).reduce(
    (sum, [length, storage]) => sum + arenaBytes(length * bytesOf(storage)),
    0,
  );
}
