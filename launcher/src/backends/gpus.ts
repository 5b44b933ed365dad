/** NVIDIA's GPUs in this machine. */

import { fileURLToPath } from 'node:url';
import { cudaDriver, DRIVER_LIBRARY } from '@sluice/engine';
import type { CudaDeviceInfo } from '@sluice/engine/cuda/devices';
import { programOutput } from '../run/programOutput.ts';

/** A GPU by its place in the list, which is its number in CUDA_VISIBLE_DEVICES. */
export type Gpu = CudaDeviceInfo;

/** For how long the driver is waited for: GPUs that were asleep take seconds each. */
const DRIVER_LIMIT_MS = 30_000;

export interface ListGpusOptions {
  /** The CUDA driver's library. */
  readonly library?: string;
  /** For how long it is waited for. */
  readonly limitMs?: number;
}

/**
 * All GPUs of the machine, whatever CUDA_VISIBLE_DEVICES shows of them: as the CUDA driver counts them, or, where it cannot be asked or
 * hangs, as NVIDIA's tool does. None where neither says any. In place of a GPU that is divided (MIG) are its parts. The driver shows a
 * process one of these alone, and no GPU beside it, so that the tool is asked for all; where there is none, that one is all that is known.
 */
export function listGpus(options: ListGpusOptions = {}): Gpu[] {
  const ofDriver = gpusOfDriver(options);
  if (ofDriver && !ofDriver.some(isPart)) return ofDriver;
  const whole = gpusOfTool();
  if (whole.length === 0) return ofDriver ?? [];
  return divided(whole, programOutput('nvidia-smi', ['-L']) ?? '');
}

/** Whether it is a part of a GPU. */
export function isPart({ uuid }: Pick<Gpu, 'uuid'>): boolean {
  return uuid.startsWith('MIG-');
}

/** @param listing of `nvidia-smi -L`: a line for each GPU, and behind it one for each of its parts */
export function divided(gpus: readonly Gpu[], listing: string): Gpu[] {
  const parts = new Map<string, Gpu[]>();
  let gpu: Gpu | undefined;
  for (const line of listing.split('\n')) {
    const [, profile, uuid] = /^\s+MIG (\S+)\s+Device\s+\d+: \(UUID: (MIG-[^)]+)\)/.exec(line) ?? [];
    if (gpu && uuid) {
      const memoryBytes = Number(/(\d+)gb/.exec(profile!)?.[1] ?? 0) * 2 ** 30;
      const part = { ...gpu, name: `${gpu.name} MIG ${profile}`, uuid, memoryBytes };
      parts.set(gpu.uuid, [...(parts.get(gpu.uuid) ?? []), part]);
    } else gpu = gpus.find((one) => line.includes(`(UUID: ${one.uuid})`));
  }
  return gpus.flatMap((one) => parts.get(one.uuid) ?? [one]);
}

/** The driver is asked in a process of its own: it may hang, or end the one that asks. */
function gpusOfDriver({
  library = DRIVER_LIBRARY,
  limitMs = DRIVER_LIMIT_MS,
}: ListGpusOptions): Gpu[] | undefined {
  // Most machines have no driver, which is seen without a process.
  if (library === DRIVER_LIBRARY && 'absence' in cudaDriver()) return undefined;
  const entry = fileURLToPath(new URL('./gpuEntry.js', import.meta.url));
  // Those that it hides have numbers, too.
  const environment = { CUDA_VISIBLE_DEVICES: undefined };
  const output = programOutput(process.execPath, [entry, library], { limitMs, environment });
  return output === undefined ? undefined : (JSON.parse(output) as Gpu[]);
}

function gpusOfTool(): Gpu[] {
  const query = ['--query-gpu=name,uuid,memory.total,compute_cap', '--format=csv,noheader,nounits'];
  return parseGpus(programOutput('nvidia-smi', query) ?? '');
}

/** @param text of `nvidia-smi`, a line for each GPU: name, UUID, MiB of memory, compute capability */
export function parseGpus(text: string): Gpu[] {
  return text.split('\n').flatMap((line) => {
    const match = /^(.+), (GPU-[\w-]+), (\d+), ([\d.]+)$/.exec(line.trim());
    if (!match) return [];
    const [, name, uuid, mebibytes, capability] = match;
    return [
      {
        ...{ name: name!, uuid: uuid!, memoryBytes: Number(mebibytes) * 2 ** 20 },
        computeCapability: Number(capability),
      },
    ];
  });
}
