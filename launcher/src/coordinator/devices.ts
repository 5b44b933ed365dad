/** Which GPU each worker of a machine computes on. */

import { SluiceError } from '@sluice/core';
import { isCudaEmulated, tensorflowInstallation } from '@sluice/engine';
import type { RunConfig } from '@sluice/train';
import type { Gpu } from '../backends/gpus.ts';

/** Which names of CUDA_VISIBLE_DEVICES are of one kind, of which a list has only one. */
const KINDS = [/^\d+$/, /^GPU-[\da-f-]*$/i, /^MIG-[\w/-]+$/];

type KnownGpu = Pick<Gpu, 'uuid'>;

/**
 * The GPUs that CUDA shows a process here: those of CUDA_VISIBLE_DEVICES, which a batch system sets, or all of the machine's. As NVIDIA's
 * documentation has it, the first name that is invalid ends the list: a number, or the beginning of a UUID, that no GPU has, the beginning
 * of several GPUs' UUIDs, or what is no name at all. So do, here, names of another kind than the first, and a GPU that was named before, of
 * which the documentation says nothing. Parts of GPUs (MIG) are not looked up.
 * @param gpus of the machine
 */
export function visibleDevices(variable: string | undefined, gpus: readonly KnownGpu[]): string[] {
  if (variable === undefined) return gpus.map((_, index) => String(index));
  if (gpus.length === 0) return [];
  return namesUntil(variable, (name, before) => {
    const [fitting, ...others] = fittingGpus(name, gpus);
    return (
      fitting === undefined ||
      others.length > 0 ||
      before.some((one) => fittingGpus(one, gpus)[0] === fitting)
    );
  });
}

/**
 * The GPUs that workers are given. Where none could be counted there may be some nevertheless, so the names of CUDA_VISIBLE_DEVICES are
 * taken at their word, until one cannot be right.
 * @param gpus of the machine; none also where nobody could count them
 */
export function devicesForWorkers(variable: string | undefined, gpus: readonly KnownGpu[]): string[] {
  if (variable === undefined || gpus.length > 0) return visibleDevices(variable, gpus);
  return namesUntil(variable, (name, before) => before.some((one) => mayBeSame(one, name)));
}

/** Names of one kind, up to the first that `isInvalid`. */
function namesUntil(
  variable: string,
  isInvalid: (name: string, before: readonly string[]) => boolean,
): string[] {
  const names = variable.split(',').map((name) => name.trim());
  const kind = KINDS.find((one) => one.test(names[0]!));
  const end = names.findIndex((name, index) => !kind?.test(name) || isInvalid(name, names.slice(0, index)));
  return end < 0 ? names : names.slice(0, end);
}

/** What a name may mean: a GPU by its place, or a part of one by its name. */
function fittingGpus(name: string, gpus: readonly KnownGpu[]): (number | string)[] {
  if (name.startsWith('MIG-')) return [name];
  const isNumber = KINDS[0]!.test(name);
  return [...gpus.keys()].filter((index) =>
    isNumber ? Number(name) === index : gpus[index]!.uuid.startsWith(name),
  );
}

function mayBeSame(one: string, other: string): boolean {
  if (KINDS[0]!.test(one)) return Number(one) === Number(other);
  return one.startsWith('MIG-') ? one === other : one.startsWith(other) || other.startsWith(one);
}

/**
 * One GPU for each worker of a machine, by its local rank. `SLUICE_SHARE_GPUS=1`, for tests, gives workers GPUs in turn where there are
 * fewer.
 * @throws SLUICE_E_BACKEND_DEVICES when there are fewer GPUs than workers, or none
 */
export function planDevices(
  devices: readonly string[],
  workers: number,
  isShared = process.env.SLUICE_SHARE_GPUS === '1',
): Readonly<Record<string, string>>[] {
  if (devices.length < (isShared ? 1 : workers)) {
    throw new SluiceError(
      'SLUICE_E_BACKEND_DEVICES',
      `${workers} workers are to run on a host where there ${devices.length === 1 ? 'is 1 GPU' : `are ${devices.length} GPUs`}.`,
      { details: { workers, devices } },
    );
  }
  return Array.from({ length: workers }, (_, index) => ({
    CUDA_VISIBLE_DEVICES: devices[index % devices.length]!,
  }));
}

/** Whether each worker needs a GPU of its own. */
export function computesOnDevices({ backend }: Pick<RunConfig, 'backend'>): boolean {
  if (backend === 'cuda') return !isCudaEmulated();
  return backend === 'tensorflow' && tensorflowInstallation()?.gpu === true;
}
