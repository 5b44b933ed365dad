/** Tells one process from another that got the same number later: by the time at which it started. */

import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { processNamespace } from '@sluice/core';
import { programOutput } from './programOutput.ts';

export interface ProcessIdentity {
  readonly pid: number;
  readonly host: string;
  /** When the process started, in the system's own notation; compared for equality only. */
  readonly started: string;
  /** In which container, where there are such things; absent in files of older versions. */
  readonly container?: string | undefined;
}

/** The start of process `pid` on this machine, or undefined when there is no such process. */
export function processStart(pid: number): string | undefined {
  return process.platform === 'linux' ? linuxProcessStart(pid) : portableProcessStart(pid);
}

function linuxProcessStart(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The name, in parentheses, may hold spaces; the fields after it do not. State is field 3, start time field 22.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    if (fields[0] === 'Z' || fields[0] === 'X') return undefined;
    return `${readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim()}:${fields[19]}`;
  } catch {
    return undefined;
  }
}

function portableProcessStart(pid: number): string | undefined {
  return programOutput('ps', ['-o', 'lstart=', '-p', String(pid)]) || undefined;
}

/** This process. */
export function ownIdentity(): ProcessIdentity {
  const [started, container] = [processStart(process.pid) ?? 'unknown', processNamespace()];
  return { pid: process.pid, host: hostname(), started, ...(container && { container }) };
}

/** Whether the process is, or was, one that this one would see. Machines and containers may have the same name. */
export function isSeenFromHere(identity: ProcessIdentity): boolean {
  return identity.host === hostname() && isOfThisBoot(identity) && !isInOtherContainer(identity);
}

/** Whether the process is alive. One of another machine or container cannot be asked, and counts as alive. */
export function isAlive(identity: ProcessIdentity): boolean {
  if (identity.host !== hostname()) return true;
  // What began before the machine was started last has ended, wherever it was.
  if (isOfThisBoot(identity) && isInOtherContainer(identity)) return true;
  return processStart(identity.pid) === identity.started;
}

/** Whether the process began since this machine was started last, as far as the system tells. */
function isOfThisBoot({ started }: ProcessIdentity): boolean {
  if (process.platform !== 'linux') return true;
  const own = processStart(process.pid);
  return own === undefined || started.startsWith(own.slice(0, own.indexOf(':') + 1));
}

function isInOtherContainer({ container }: ProcessIdentity): boolean {
  return container !== undefined && container !== processNamespace();
}
