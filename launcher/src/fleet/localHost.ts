/** The coordinator's own machine, when the run has no other. */

import { availableCores, availableMemory } from '@sluice/core';
import { listGpus } from '../backends/gpus.ts';
import { hostDevices } from '../coordinator/devices.ts';
import type { Host, HostDevice } from './host.ts';
import { startWorkerProcess } from './workerProcess.ts';

/** What people are told of it as. */
export const LOCAL_HOST = 'this machine';

/** @param entry program of a worker; the trainer's own when left out */
export function localHost(entry?: string): Host {
  let devices: readonly HostDevice[] | undefined;
  return {
    name: LOCAL_HOST,
    address: undefined,
    cores: availableCores().count,
    memoryBytes: availableMemory(),
    // Asked for only where a backend computes on them.
    get devices() {
      devices ??= hostDevices(process.env.CUDA_VISIBLE_DEVICES, listGpus());
      return devices;
    },
    slots: undefined,
    startWorker: (order) => startWorkerProcess(order, entry),
  };
}
