/** Tells one process from another that got the same number later: by the time at which it started. */

import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { programOutput } from './programOutput.ts';

export interface ProcessIdentity {
  readonly pid: number;
  readonly host: string;
  /** When the process started, in the system's own notation; compared for equality only. */
  readonly started: string;
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
  return { pid: process.pid, host: hostname(), started: processStart(process.pid) ?? 'unknown' };
}

/** Whether the process is alive. One of another machine cannot be asked, and counts as alive. */
export function isAlive(identity: ProcessIdentity): boolean {
  if (identity.host !== hostname()) return true;
  return processStart(identity.pid) === identity.started;
}
