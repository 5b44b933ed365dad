/** Mistakes planted in kernels: a test that does not find them is not worth much. */

import { setImmediate } from 'node:timers/promises';
import type { SluiceError } from '@sluice/core';
import {
  type CudaDevice,
  type DeviceArray,
  Emulator,
  kernelHeaders,
  kernelSource,
} from '@sluice/engine/cuda';
import type { ExecutionContext } from 'ava';
import { device, floatsOf } from './cuda.ts';

export interface Mutant {
  readonly what: string;
  readonly file: string;
  readonly plant: (text: string) => string;
  /** The largest error as a share of what is allowed. */
  readonly error: (on: Emulator) => number;
}

/** How many values are others than those without a mistake, whose rightness other tests see to. */
export function otherValues(compute: (on: CudaDevice) => readonly DeviceArray[]): Mutant['error'] {
  const valuesOn = (on: CudaDevice) => compute(on).flatMap((array) => [...floatsOf(array)]);
  let expected: number[] | undefined;
  return (on) => {
    expected ??= valuesOn(device);
    const actual = valuesOn(on.device);
    return expected.filter((value, i) => actual[i] !== value).length * 2;
  };
}

/** The first place, or each. */
export const instead = (from: string | RegExp, to: string) => (text: string) => text.replace(from, to);

/** A kernel's source with the headers that are its own, so that mistakes can be planted in these, too. */
function wholeSource(file: string): string {
  const headers = kernelHeaders();
  const included = new Set<string>();
  const own = (text: string): string =>
    text.replace(
      /#include "(tile|product|floatProduct|hopperProduct|attention\w*|deltaChunks|stock)\.h"/g,
      (_, name) => {
        if (included.has(name)) return '';
        included.add(name);
        return own(headers[`${name}.h`]!);
      },
    );
  return own(kernelSource(file).text);
}

/** Demands that each mistake shows. */
export async function findAll(t: ExecutionContext, mutants: readonly Mutant[]): Promise<void> {
  for (const mutant of mutants) {
    // Results of other tests are told in between.
    await setImmediate();
    t.true(isFound(mutant), mutant.what);
  }
}

/** Whether the mistake shows: as a fault, or as an error that is too large. */
export function isFound({ file, plant, error }: Mutant): boolean {
  const planted = plant(wholeSource(file));
  if (planted === wholeSource(file)) throw new Error(`${file} has no such place`);
  const mutant = new Emulator({
    sourceOf: (name) => (name === file ? { name, text: planted } : kernelSource(name)),
  });
  try {
    return error(mutant) > 1;
  } catch (fault) {
    if ((fault as SluiceError).code === 'SLUICE_E_CUDA' && /LAUNCH_FAILED/.test((fault as Error).message))
      return true;
    throw fault;
  }
}
