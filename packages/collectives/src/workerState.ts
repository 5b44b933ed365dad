/** What a worker is doing, as its communication thread tells when it is asked, even while the main thread blocks or computes. */

import { readFileSync } from 'node:fs';
import type { Operation } from './operation.ts';

export interface WorkerState {
  /** In the words of the main thread. */
  readonly activity: string;
  /** Of the main thread, as the kernel has it; null where that is not known. */
  readonly mainThread: 'running' | 'waiting' | 'waiting for a device' | 'stopped' | null;
  /** Oldest first. */
  readonly operations: readonly OperationState[];
  readonly residentBytes: number;
  readonly peakResidentBytes: number;
  /** Time on all cores, seconds. */
  readonly cpuSeconds: number;
  readonly runningSeconds: number;
}

/** A collective operation that is under way. */
export interface OperationState {
  readonly name: string;
  /** World ranks that take part. */
  readonly group: readonly number[];
  /** Number of the operation among those of its group: those that belong together have the same. */
  readonly sequence: number;
  readonly seconds: number;
  /** Ranks that something is missing from, the first of them, and what. */
  readonly waitingFor: readonly { readonly rank: number; readonly why: string }[];
  /** How many more there are. */
  readonly moreWaitedFor: number;
}

/** Of many ranks and operations, as many as one message has room for. */
const MOST_RANKS = 32;
const MOST_OPERATIONS = 16;

export function ownState(activity: string, operations: readonly Operation[]): WorkerState {
  const { user, system } = process.cpuUsage();
  return {
    activity,
    mainThread: mainThreadState(),
    operations: operations.slice(0, MOST_OPERATIONS).map(stateOf),
    residentBytes: process.memoryUsage.rss(),
    peakResidentBytes: process.resourceUsage().maxRSS * 1024,
    cpuSeconds: (user + system) / 1e6,
    runningSeconds: process.uptime(),
  };
}

function stateOf(operation: Operation): OperationState {
  const { name, ranks, sequence } = operation;
  const waitingFor = [...operation.waitingFor()].map(([rank, why]) => ({ rank, why }));
  return {
    ...{ name, group: ranks, sequence, seconds: operation.ageMs / 1000 },
    waitingFor: waitingFor.slice(0, MOST_RANKS),
    moreWaitedFor: Math.max(0, waitingFor.length - MOST_RANKS),
  };
}

const KERNEL_STATES: Readonly<Record<string, WorkerState['mainThread']>> = {
  R: 'running',
  S: 'waiting',
  D: 'waiting for a device',
  T: 'stopped',
  t: 'stopped',
};

/** Linux names the first thread of a process as the process. */
function mainThreadState(): WorkerState['mainThread'] {
  try {
    const stat = readFileSync(`/proc/self/task/${process.pid}/stat`, 'latin1');
    return KERNEL_STATES[stat.slice(stat.lastIndexOf(')') + 2)[0]!] ?? null;
  } catch {
    return null;
  }
}
