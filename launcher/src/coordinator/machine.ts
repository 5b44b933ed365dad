/** What the workers need of the machines, looked at before anything of a run is written. */

import { runtimeParent } from '@sluice/collectives';
import { nativeAbsence } from '@sluice/engine';
import type { RunConfig } from '@sluice/train';
import type { Host } from '../fleet/host.ts';
import { placeWorkers, worldThatFits } from '../fleet/placement.ts';
import { computesOnDevices, planDevices } from './devices.ts';
import { checkMemory } from './memory.ts';

/**
 * Makes sure that there is a GPU for each worker that needs one, memory for the weights, and a place for the coordinator's sockets.
 * @param hosts those that are known already
 * @returns what the user ought to know of them, a line each
 * @throws SLUICE_E_BACKEND_DEVICES, SLUICE_E_MODEL_TOO_LARGE, SLUICE_E_TEMPORARY_DIRECTORY
 */
export function checkMachine(config: RunConfig, hosts: readonly Host[]): string[] {
  runtimeParent();
  if (computesOnDevices(config) && hosts.length > 0) {
    const { workers } = worldThatFits(hosts, config.parallel);
    for (const { host, ranks } of placeWorkers(hosts, workers)) planDevices(host.devices, ranks.length);
  }
  return [...checkMemory(config, hosts), ...plainBackendLines(config)];
}

/** What is said where a command trains on this machine alone, though the configuration names others. */
export function aloneLines({ hosts }: Pick<RunConfig, 'hosts'>): string[] {
  if (hosts.on === 'local') return [];
  return [
    `hosts.on is ${hosts.on}, but this command trains on this machine alone; \`sluice launch\` brings hosts together`,
  ];
}

function plainBackendLines({ backend }: Pick<RunConfig, 'backend'>): string[] {
  const absence = backend === 'native' ? nativeAbsence() : undefined;
  if (absence === undefined) return [];
  return [
    `the C++ core is not there (${absence}): the plain backend computes, which is much slower and gives other bits`,
  ];
}
