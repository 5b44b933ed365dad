/** What is known of a machine's CUDA before any of it is opened: whether there is a driver, or the emulator is asked for in its place. */

import { createRequire } from 'node:module';
import { SluiceError } from '@sluice/core';

/** As the system's loader finds it. */
export const DRIVER_LIBRARY = 'libcuda.so.1';

/** What `SLUICE_CUDA` may be: the emulator of a card that has no more than all have, or of a Hopper, with kernels of its own. */
const EMULATED = ['emulated', 'emulated-hopper'];

/** What is wrong with `SLUICE_CUDA`, if anything is. */
export function emulationMistake(): string | undefined {
  const wanted = process.env.SLUICE_CUDA;
  if (!wanted || EMULATED.includes(wanted)) return undefined;
  const may = EMULATED.map((name) => `"${name}"`).join(' or ');
  return `SLUICE_CUDA is "${wanted}", and may be ${may}, for the emulator, or unset, for a GPU`;
}

/**
 * Whether the emulator is asked for.
 * @throws SLUICE_E_CUDA where something else is
 */
export function isCudaEmulated(): boolean {
  const wrong = emulationMistake();
  if (wrong) throw new SluiceError('SLUICE_E_CUDA', `${wrong}.`);
  return EMULATED.includes(process.env.SLUICE_CUDA ?? '');
}

/** Whether the emulator is to be a Hopper. */
export function isHopperEmulated(): boolean {
  return isCudaEmulated() && process.env.SLUICE_CUDA === 'emulated-hopper';
}

interface Koffi {
  load(library: string): { func(prototype: string): (version: Int32Array) => number };
}

/** The newest CUDA that the driver takes, as 13000 for 13.0, or why there is none that can be asked. */
export function cudaDriver(): { readonly version: number } | { readonly absence: string } {
  try {
    const koffi = createRequire(import.meta.url)('koffi') as Koffi;
    const version = new Int32Array(1);
    const code = koffi.load(DRIVER_LIBRARY).func('int cuDriverGetVersion(int *version)')(version);
    return code === 0 ? { version: version[0]! } : { absence: `the NVIDIA driver fails with error ${code}` };
  } catch (error) {
    const reason = (error as Error).message.split('\n')[0];
    const instead = 'SLUICE_CUDA=emulated computes on the CPU, slowly';
    return { absence: `there is no NVIDIA driver that can be opened (${reason}); ${instead}` };
  }
}
