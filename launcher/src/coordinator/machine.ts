/** What the workers need of this machine, looked at before anything of a run is written. */

import { runtimeParent } from '@sluice/collectives';
import type { RunConfig } from '@sluice/train';
import { deviceEnvironments } from './devices.ts';

/**
 * Makes sure that there is a GPU for each worker that needs one, and a place for the workers' sockets.
 * @throws SLUICE_E_BACKEND_DEVICES, SLUICE_E_TEMPORARY_DIRECTORY
 */
export function checkMachine(config: Pick<RunConfig, 'backend' | 'parallel'>): void {
  deviceEnvironments(config);
  runtimeParent();
}
