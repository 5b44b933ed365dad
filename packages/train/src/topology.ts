/** Who shares what with whom: data-parallel × expert-parallel groups of workers. */

import type { Blocked, Group } from '@sluice/collectives';
import { type Linked, linkDevices } from './linkDevices.ts';
import type { Workers } from './workers.ts';

export interface Topology {
  readonly rank: number;
  readonly size: number;
  readonly world: Group;
  readonly blocked: Blocked;
  /** Neighbouring workers that share one set of experts. */
  readonly experts: Group;
  /** The workers that hold the same experts: one of each set. */
  readonly expertReplicas: Group;
  /** The way between the workers' devices. */
  readonly devices: Linked;
}

/**
 * Worker r belongs to the expert-parallel set ⌊r / size⌋ and holds part r mod size of the experts.
 * @throws what linking devices throws, unless they are linked already
 */
export function topology(
  workers: Pick<Workers, 'rank' | 'size' | 'world' | 'blocked' | 'group'>,
  expertParallel: number,
  devices: Linked = linkDevices(workers),
): Topology {
  const { rank, size, world, blocked } = workers;
  const first = Math.floor(rank / expertParallel) * expertParallel;
  const set = Array.from({ length: expertParallel }, (_, i) => first + i);
  const replicas = Array.from(
    { length: size / expertParallel },
    (_, i) => (rank % expertParallel) + i * expertParallel,
  );
  const [experts, expertReplicas] = [workers.group(set), workers.group(replicas)];
  return { rank, size, world, blocked, experts, expertReplicas, devices };
}
