/** Doing to a run what was drawn. */

import { setTimeout as delay } from 'node:timers/promises';
import { type AbusedRun, signalQuietly } from './abusedRun.ts';
import type { Kind } from './mischief.ts';

/** How long a worker stays frozen, or the way to it stands still, ms. */
const FROZEN_MS = 2500;

/**
 * @param which a number from 0 to 1, which tells one of several
 * @returns who it was done to; undefined where there was nobody
 */
export async function carryOut(run: AbusedRun, kind: Kind, which: number): Promise<string | undefined> {
  switch (kind) {
    case 'killCoordinator':
      run.killCoordinator();
      return 'coordinator';
    case 'resize':
      run.stopCoordinator();
      return String(2 ** Math.floor(which * 3));
    case 'killWorker':
    case 'freezeWorker':
      return onWorker(run, kind, which);
    case 'cutLink':
    case 'stallLink':
      return onLink(run, kind, which);
    case 'killAgent':
    case 'killHost':
    case 'freezeHost':
    case 'cutHost': {
      const host = oneOf(run.busyHosts(), which);
      if (host !== undefined) run[kind](host);
      return host;
    }
  }
}

async function onWorker(
  run: AbusedRun,
  kind: 'killWorker' | 'freezeWorker',
  which: number,
): Promise<string | undefined> {
  const victim = oneOf(run.workers(), which);
  if (victim === undefined) return undefined;
  if (!signalQuietly(victim.pid, kind === 'killWorker' ? 'SIGKILL' : 'SIGSTOP')) return undefined;
  if (kind === 'freezeWorker') {
    await delay(FROZEN_MS);
    signalQuietly(victim.pid, 'SIGCONT');
  }
  return `process ${victim.pid}`;
}

/** Does something to the way by which workers of other hosts reach one. */
async function onLink(
  run: AbusedRun,
  kind: 'cutLink' | 'stallLink',
  which: number,
): Promise<string | undefined> {
  const detour = oneOf(run.detours(), which);
  if (detour === undefined) return undefined;
  const { rank, link } = detour;
  if (kind === 'cutLink') link.cut();
  else {
    link.stall();
    await delay(FROZEN_MS);
  }
  link.mend();
  return `worker ${rank}`;
}

function oneOf<T>(all: readonly T[], which: number): T | undefined {
  return all[Math.floor(which * all.length)];
}
