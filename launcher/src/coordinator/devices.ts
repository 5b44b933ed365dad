/** Which GPU each worker of a machine computes on. */

import { SluiceError } from '@sluice/core';
import { isCudaEmulated, tensorflowInstallation } from '@sluice/engine';
import type { RunConfig } from '@sluice/train';
import { type Gpu, isPart } from '../backends/gpus.ts';
import type { HostDevice } from '../fleet/host.ts';

/**
 * Which names of CUDA_VISIBLE_DEVICES are of one kind, of which a list has only one. Those of parts (MIG) are of drivers from 470 on, and
 * of older ones.
 */
const KINDS = [/^\d+$/, /^GPU-[\da-f-]*$/i, /^MIG-(?!GPU-)[\w-]+$/, /^MIG-GPU-[\w-]+\/\d+\/\d+$/];

type KnownGpu = Pick<Gpu, 'uuid'>;

/**
 * The GPUs that CUDA shows a process here: those of CUDA_VISIBLE_DEVICES, which a batch system sets, or all of the machine's. As NVIDIA's
 * documentation has it, the first name that is invalid ends the list: a number, or the beginning of a UUID, that no GPU has, the beginning
 * of several GPUs' UUIDs, or what is no name at all. So do, here, names of another kind than the first, and a GPU that was named before, of
 * which the documentation says nothing. Where GPUs are divided (MIG) all go by their UUIDs, in full: a number means a part that nobody says.
 * @param gpus of the machine
 */
export function visibleDevices(variable: string | undefined, gpus: readonly KnownGpu[]): string[] {
  const isDivided = gpus.some(isPart);
  if (variable === undefined) return gpus.map(({ uuid }, index) => (isDivided ? uuid : String(index)));
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
 * @throws SLUICE_E_BACKEND_DEVICES where GPUs are divided, and a name is that of none of the parts
 */
export function devicesForWorkers(variable: string | undefined, gpus: readonly KnownGpu[]): string[] {
  if (variable === undefined) return visibleDevices(variable, gpus);
  if (gpus.length === 0)
    return namesUntil(variable, (name, before) => before.some((one) => mayBeSame(one, name)));
  const devices = visibleDevices(variable, gpus);
  const unknown = namesIn(variable)[devices.length];
  if (unknown && gpus.some(isPart)) {
    throw new SluiceError(
      'SLUICE_E_BACKEND_DEVICES',
      `CUDA_VISIBLE_DEVICES is ${variable}, but GPUs of this host are divided (MIG), and ${unknown} names none of ` +
        `${gpus.map(({ uuid }) => uuid).join(', ')}, or one that was named before. Name GPUs and parts by UUIDs, as nvidia-smi -L lists them, all of one kind.`,
      { details: { variable, unknown } },
    );
  }
  return devices;
}

/** These, each with its memory, where it is known. */
export function hostDevices(
  variable: string | undefined,
  gpus: readonly Pick<Gpu, 'uuid' | 'memoryBytes'>[],
): HostDevice[] {
  return devicesForWorkers(variable, gpus).map((name) => {
    const place = fittingGpus(name, gpus)[0];
    const gpu = typeof place === 'number' ? gpus[place] : gpus.find(({ uuid }) => uuid === place);
    return { name, ...(gpu && { memoryBytes: gpu.memoryBytes }) };
  });
}

const namesIn = (variable: string) => variable.split(',').map((name) => name.trim());

/** Names of one kind, up to the first that `isInvalid`. */
function namesUntil(
  variable: string,
  isInvalid: (name: string, before: readonly string[]) => boolean,
): string[] {
  const names = namesIn(variable);
  const kind = KINDS.find((one) => one.test(names[0]!));
  const end = names.findIndex((name, index) => !kind?.test(name) || isInvalid(name, names.slice(0, index)));
  return end < 0 ? names : names.slice(0, end);
}

/** What a name may mean: a GPU, or a part of one, by its place. */
function fittingGpus(name: string, gpus: readonly KnownGpu[]): (number | string)[] {
  const parts = gpus.filter(isPart);
  // Where one is known there may be others: only NVIDIA's tool lists all.
  if (isPart({ uuid: name }) && parts.length === 1) return [name];
  const isNumber = KINDS[0]!.test(name);
  if (isNumber && parts.length > 0) return [];
  return [...gpus.keys()].filter((index) => {
    const { uuid } = gpus[index]!;
    if (isNumber) return Number(name) === index;
    return isPart({ uuid }) ? uuid === name : uuid.startsWith(name);
  });
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
  devices: readonly HostDevice[],
  workers: number,
  isShared = process.env.SLUICE_SHARE_GPUS === '1',
): Readonly<Record<string, string>>[] {
  if (devices.length < (isShared ? 1 : workers)) {
    throw new SluiceError(
      'SLUICE_E_BACKEND_DEVICES',
      `${workers} workers are to run on a host where there ${devices.length === 1 ? 'is 1 GPU' : `are ${devices.length} GPUs`}.`,
      { details: { workers, devices: devices.map(({ name }) => name) } },
    );
  }
  return Array.from({ length: workers }, (_, index) => ({
    CUDA_VISIBLE_DEVICES: devices[index % devices.length]!.name,
  }));
}

/** Whether each worker needs a GPU of its own. */
export function computesOnDevices({ backend }: Pick<RunConfig, 'backend'>): boolean {
  if (backend === 'cuda') return !isCudaEmulated();
  return backend === 'tensorflow' && tensorflowInstallation()?.gpu === true;
}
