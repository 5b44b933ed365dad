/** Processes of other processes, on Linux. */

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

/** Process ids of the workers of a coordinator. */
export function workersOf(coordinator: number): number[] {
  const parent = new RegExp(`^PPid:\\s*${coordinator}$`, 'm');
  const isWorker = (pid: string) => {
    try {
      return parent.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
    } catch {
      return false;
    }
  };
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && isWorker(name))
    .map(Number);
}

/** Waits for a process to end. */
export async function isGone(pid: number): Promise<boolean> {
  for (let i = 0; i < 300 && existsSync(`/proc/${pid}`); i++) await delay(100);
  return !existsSync(`/proc/${pid}`);
}
