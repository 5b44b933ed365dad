/**
 * How many cores this process may keep busy: those that it may run on (its affinity), and no more than the CPU time that its
 * container gives it. A group of processes with a quota below that is stopped in the middle of each period, with all the
 * threads that wait for one another.
 */

import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { controlGroups, readIfThere } from './controlGroups.ts';

/** Threads of a process that may be asked for: more are of no use, and the system may not give them. */
export const MOST_THREADS = 1024;

export interface AvailableCores {
  /** Cores that may be kept busy, at least one. */
  readonly count: number;
  /** Cores that the process may run on. */
  readonly allowed: number;
  /** CPU time of the container, in cores; undefined without a quota. */
  readonly quota: number | undefined;
}

/** @param root where the system's files /proc and /sys lie; tests name another place */
export function availableCores(root = '/', allowed = availableParallelism()): AvailableCores {
  const quota = process.platform === 'linux' || root !== '/' ? cpuQuota(root) : undefined;
  const count = quota === undefined ? allowed : Math.min(allowed, Math.max(1, Math.floor(quota)));
  return { count, allowed, quota };
}

/** The smallest quota of the process's control group and of those above it, in cores. */
function cpuQuota(root: string): number | undefined {
  const quotas = controlGroups(root, 'cpu').map(({ version, directory }) =>
    version === 2 ? quotaOfVersion2(directory) : quotaOfVersion1(directory),
  );
  const least = Math.min(...quotas);
  return Number.isFinite(least) ? least : undefined;
}

/** `cpu.max`: microseconds of CPU time in each period, or `max`, and the length of the period. */
function quotaOfVersion2(directory: string): number {
  const [quota, period] = (readIfThere(join(directory, 'cpu.max')) ?? 'max').trim().split(/\s+/);
  return quota === 'max' ? Number.POSITIVE_INFINITY : cores(Number(quota), Number(period ?? 100_000));
}

/** The same in two files, where −1 stands for no quota. */
function quotaOfVersion1(directory: string): number {
  const quota = Number(readIfThere(join(directory, 'cpu.cfs_quota_us')) ?? -1);
  return cores(quota, Number(readIfThere(join(directory, 'cpu.cfs_period_us')) ?? 100_000));
}

function cores(quota: number, period: number): number {
  return quota > 0 && period > 0 ? quota / period : Number.POSITIVE_INFINITY;
}
