/** How much memory this process may take: the machine's, and no more than its container gives it. */

import { totalmem } from 'node:os';
import { join } from 'node:path';
import { controlGroups, readIfThere } from './controlGroups.ts';

/** Weights of so many times the memory that there is fit into no swap space either: the system would end the process. */
const HOPELESS = 2;

/** Whether weights are too many for any swap space, beside a plan of what else is taken, which is but an estimate. */
export function fitNowhere(weightsBytes: number, memoryBytes: number): boolean {
  return weightsBytes > HOPELESS * memoryBytes;
}

/**
 * @param root where the system's files /proc and /sys lie; tests name another place
 * @returns bytes
 */
export function availableMemory(root = '/', machine = totalmem()): number {
  if (process.platform !== 'linux' && root === '/') return machine;
  // Version 2 writes `max` where there is no limit, version 1 a number beyond any memory.
  const limits = controlGroups(root, 'memory').map(({ version, directory }) =>
    Number(readIfThere(join(directory, version === 2 ? 'memory.max' : 'memory.limit_in_bytes')) ?? 'none'),
  );
  return Math.min(machine, ...limits.filter((limit) => limit > 0));
}
