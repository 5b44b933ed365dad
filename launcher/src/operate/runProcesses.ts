/** Processes of this machine that carry a run's token in their environment, and their end in order. Linux only: it reads /proc. */

import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { SluiceError } from '@sluice/core';
import { processStart } from '../run/processIdentity.ts';
import { RUN_VARIABLE } from '../run/runToken.ts';
import { isAgent, isWorker } from './processes.ts';

export interface RunProcess {
  readonly pid: number;
  /** When it began: tells it from another that gets its number later. */
  readonly started: string;
  readonly what: 'agent' | 'worker' | 'other';
  /** Of a worker. */
  readonly rank: number | null;
  readonly token: string;
}

/** How long processes may take to end after SIGTERM, before they are killed, ms. */
const TERM_GRACE_MS = 5000;
/** How long the kernel may take to remove one that was killed, ms. */
const KILL_LIMIT_MS = 10_000;
const LOOK_MS = 50;

/**
 * @param token of the run; all runs when left out
 * @throws SLUICE_E_USAGE where there is no /proc
 */
export function runProcesses(token?: string): RunProcess[] {
  let names: string[];
  try {
    names = readdirSync('/proc');
  } catch {
    throw new SluiceError('SLUICE_E_USAGE', 'Left-over processes are found in /proc, which only Linux has.');
  }
  return names
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .flatMap((name) => processOfRun(Number(name)) ?? [])
    .filter((found) => token === undefined || found.token === token);
}

/** @returns undefined where it is of no run, of another user, or has ended */
function processOfRun(pid: number): RunProcess | undefined {
  const started = processStart(pid);
  if (started === undefined) return undefined;
  try {
    const variables = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0');
    const variable = (name: string) =>
      variables.find((one) => one.startsWith(`${name}=`))?.slice(name.length + 1);
    const token = variable(RUN_VARIABLE);
    if (token === undefined) return undefined;
    const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
    const what = isWorker({ words }) ? 'worker' : isAgent({ words }) ? 'agent' : 'other';
    const rank = what === 'worker' ? Number(variable('RANK')) : null;
    return { pid, started, what, rank, token };
  } catch {
    return undefined;
  }
}

export interface Ended {
  readonly ended: readonly RunProcess[];
  /** Those that did not end, even by force. */
  readonly left: readonly RunProcess[];
}

/** Asks processes to end, and kills those that do not: workers end by force only, their agents after them. */
export async function endProcesses(
  processes: readonly RunProcess[],
  limits: { readonly graceMs?: number; readonly killMs?: number } = {},
): Promise<Ended> {
  const { graceMs = TERM_GRACE_MS, killMs = KILL_LIMIT_MS } = limits;
  for (const one of processes) send(one, 'SIGTERM');
  let left = await waitForEnd(processes, graceMs);
  for (const one of left) if (one.what !== 'agent') send(one, 'SIGKILL');
  for (const one of left) if (one.what === 'agent') send(one, 'SIGKILL');
  left = await waitForEnd(left, killMs);
  return { ended: processes.filter((one) => !left.includes(one)), left };
}

/** Sends a signal to the very process that was found, and to no other that has its number. */
function send(one: RunProcess, signal: NodeJS.Signals): void {
  if (!isThere(one)) return;
  try {
    process.kill(one.pid, signal);
  } catch {
    // It has ended in between.
  }
}

async function waitForEnd(processes: readonly RunProcess[], limitMs: number): Promise<readonly RunProcess[]> {
  let left = processes.filter(isThere);
  for (let waited = 0; left.length > 0 && waited < limitMs; waited += LOOK_MS) {
    await delay(LOOK_MS);
    left = left.filter(isThere);
  }
  return left;
}

function isThere({ pid, started }: Pick<RunProcess, 'pid' | 'started'>): boolean {
  return processStart(pid) === started;
}
