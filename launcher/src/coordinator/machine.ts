/** What the workers need of the machines, looked at before anything of a run is written. */

import { runtimeParent } from '@sluice/collectives';
import type { RunConfig } from '@sluice/train';
import type { Host } from '../fleet/host.ts';
import { placeWorkers, worldThatFits } from '../fleet/placement.ts';
import { computesOnDevices, planDevices } from './devices.ts';

/**
 * Makes sure that there is a GPU for each worker that needs one, and a place for the coordinator's sockets.
 * @param hosts those that are known already
 * @throws SLUICE_E_BACKEND_DEVICES, SLUICE_E_TEMPORARY_DIRECTORY
 */
export function checkMachine(config: Pick<RunConfig, 'backend' | 'parallel'>, hosts: readonly Host[]): void {
  runtimeParent();
  if (!computesOnDevices(config) || hosts.length === 0) return;
  const { workers } = worldThatFits(hosts, config.parallel);
  for (const { host, ranks } of placeWorkers(hosts, workers)) planDevices(host.devices, ranks.length);
}
