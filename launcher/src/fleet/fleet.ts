/** The hosts of a run, which may come and go while it goes on. */

import type { TeamNetwork } from '../coordinator/team.ts';
import type { Host } from './host.ts';
import { localHost } from './localHost.ts';

export interface Fleet {
  /** How hosts reach each other; undefined where the run has only this machine. */
  readonly network: TeamNetwork | undefined;
  /** The hosts that are there, in the order of their ranks. */
  hosts(): readonly Host[];
  /**
   * Resolves once the hosts are there that are to be, or those that came within the time for it.
   * @param isRestart whether a fault has just ended the workers: those that live need not wait as long as at the beginning
   * @param isStopped whether nobody is to be waited for any more
   * @throws SLUICE_E_HOSTS_TOO_FEW when none is there; SLUICE_E_INTERRUPTED when the run is to stop
   */
  assemble(isRestart: boolean, isStopped: () => boolean): Promise<readonly Host[]>;
  /** Whether hosts have come that workers are not on, though there is work for them. */
  hasNewcomers(): boolean;
  /**
   * Tells once when somebody on another host wants the run saved and stopped.
   * @returns ends the telling
   */
  onStop(listener: (reason: string) => void): () => void;
}

/** @param entry program of a worker; the trainer's own when left out */
export function localFleet(entry?: string): Fleet {
  const hosts = [localHost(entry)];
  return {
    network: undefined,
    hosts: () => hosts,
    assemble: async () => hosts,
    hasNewcomers: () => false,
    onStop: () => () => {},
  };
}
