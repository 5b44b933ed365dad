/** Processes of other processes, on Linux. */

import { existsSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { descendants, isWorker } from '../../../launcher/src/operate/processes.ts';

/** Process ids of the workers of a coordinator. */
export function workersOf(coordinator: number): number[] {
  return descendants(coordinator)
    .filter(isWorker)
    .map(({ pid }) => pid);
}

/** Waits for a process to end. */
export async function isGone(pid: number): Promise<boolean> {
  for (let i = 0; i < 300 && existsSync(`/proc/${pid}`); i++) await delay(100);
  return !existsSync(`/proc/${pid}`);
}
