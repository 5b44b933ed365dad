/**
 * Whether the kernel has killed for want of memory. SIGKILL has many senders; this one alone counts what it does, for a control
 * group and for the machine, so it is named only where a counter has moved.
 */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';

export interface MemoryKills {
  /** In this process's control group, where its counter is to be seen. */
  readonly group: number | undefined;
  /** On the whole machine, other containers included. */
  readonly machine: number | undefined;
}

/** The counters now. @param root where the system's files /proc and /sys lie; tests name another place */
export function memoryKills(root = '/'): MemoryKills {
  return { group: groupKills(root), machine: counter(join(root, 'proc/vmstat')) };
}

/** What a death by SIGKILL has to do with the counters' movement, in words; empty where they have not moved. */
export function killedForMemory(before: MemoryKills, after: MemoryKills): string {
  if (hasMoved(before.group, after.group)) return ': killed by the kernel for want of memory';
  // The machine's counter counts the group's too, where that is not to be seen; it may have been another's process.
  if (before.group === undefined && hasMoved(before.machine, after.machine)) {
    return ': the kernel has just killed a process of this machine for want of memory';
  }
  return '';
}

function hasMoved(before: number | undefined, after: number | undefined): boolean {
  return before !== undefined && after !== undefined && after > before;
}

/** `oom_kill` of the group: `memory.events` in version 2, `memory.oom_control` in version 1. */
function groupKills(root: string): number | undefined {
  for (const line of (read(join(root, 'proc/self/cgroup')) ?? '').split('\n')) {
    const [, controllers, path] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    if (controllers === undefined || path === undefined) continue;
    const [mount, file] = controllers === '' ? ['', 'memory.events'] : ['memory', 'memory.oom_control'];
    if (controllers !== '' && !controllers.split(',').includes('memory')) continue;
    const directory = join(root, 'sys/fs/cgroup', mount);
    // In a container, the group's name may be that of the host, and its directory the mount itself.
    const count = counter(join(directory, path, file)) ?? counter(join(directory, file));
    if (count !== undefined) return count;
  }
  return undefined;
}

function counter(path: string): number | undefined {
  const count = read(path)?.match(/^oom_kill (\d+)$/m)?.[1];
  return count === undefined ? undefined : Number(count);
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return undefined;
  }
}

/** Between two looks at the counters while workers run, ms. */
const LOOK_EVERY_MS = 5000;

/** Looks at the counters from time to time, so that only what moved lately is told of a death. */
export class MemoryWatch {
  readonly #look: () => MemoryKills;
  readonly #timer: NodeJS.Timeout;
  /** The last two looks: the older one was before whatever is happening now. */
  #older: MemoryKills;
  #newer: MemoryKills;

  constructor(look: () => MemoryKills = memoryKills) {
    this.#look = look;
    this.#older = look();
    this.#newer = this.#older;
    this.#timer = setInterval(() => this.tick(), LOOK_EVERY_MS).unref();
  }

  tick(): void {
    this.#older = this.#newer;
    this.#newer = this.#look();
  }

  /** @returns what is to be added to `signal SIGKILL` */
  explain(): string {
    return killedForMemory(this.#older, this.#look());
  }

  end(): void {
    clearInterval(this.#timer);
  }
}
