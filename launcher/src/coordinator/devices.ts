/** Which GPU each worker of a machine computes on. */

import { SluiceError } from '@sluice/core';
import { isCudaEmulated, tensorflowInstallation } from '@sluice/engine';
import type { RunConfig } from '@sluice/train';
import type { Gpu } from '../backends/gpus.ts';

/**
 * The GPUs that may be used here: those of CUDA_VISIBLE_DEVICES, which a batch system sets, or all of the machine's.
 * @param gpus of the machine; none also where nobody could count them
 */
export function visibleDevices(variable: string | undefined, gpus: readonly Pick<Gpu, 'uuid'>[]): string[] {
  if (variable === undefined) return gpus.map((_, index) => String(index));
  const names = variable.split(',').map((name) => name.trim());
  // As CUDA reads it: what follows a number, or the beginning of a UUID, that no GPU has does not count. Parts of GPUs have names of
  // their own, which are not looked up.
  const isNone = (name: string) => {
    if (name === '' || name === '-1') return true;
    if (gpus.length === 0) return false;
    if (/^GPU-/.test(name)) return !gpus.some(({ uuid }) => uuid.startsWith(name));
    return Number(name) >= gpus.length;
  };
  const end = names.findIndex(isNone);
  return end < 0 ? names : names.slice(0, end);
}

/**
 * One GPU for each worker of a machine, by its local rank.
 * @throws SLUICE_E_BACKEND_DEVICES when there are fewer GPUs than workers
 */
export function planDevices(devices: readonly string[], workers: number): Readonly<Record<string, string>>[] {
  if (devices.length < workers) {
    throw new SluiceError(
      'SLUICE_E_BACKEND_DEVICES',
      `${workers} workers are to run on a host where there ${devices.length === 1 ? 'is 1 GPU' : `are ${devices.length} GPUs`}.`,
      { details: { workers, devices } },
    );
  }
  return devices.slice(0, workers).map((device) => ({ CUDA_VISIBLE_DEVICES: device }));
}

/** Whether each worker needs a GPU of its own. */
export function computesOnDevices({ backend }: Pick<RunConfig, 'backend'>): boolean {
  if (backend === 'cuda') return !isCudaEmulated();
  return backend === 'tensorflow' && tensorflowInstallation()?.gpu === true;
}
