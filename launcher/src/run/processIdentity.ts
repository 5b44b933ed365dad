/** Tells one process from another that got the same number later: by the time at which it started. */

import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { processNamespace } from '@sluice/core';
import { programOutput } from './programOutput.ts';

export interface ProcessIdentity {
  readonly pid: number;
  readonly host: string;
  /** When the process started, in the system's own notation, and in which container; compared for equality only. */
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
    return `${ownSpace()}:${fields[19]}`;
  } catch {
    return undefined;
  }
}

/** Where numbers of processes are those that this one sees: the machine since it was started last, and in it the container. */
function ownSpace(): string {
  const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
  return `${boot}:${processNamespace() ?? ''}`;
}

function portableProcessStart(pid: number): string | undefined {
  return programOutput('ps', ['-o', 'lstart=', '-p', String(pid)]) || undefined;
}

/** This process. */
export function ownIdentity(): ProcessIdentity {
  return { pid: process.pid, host: hostname(), started: processStart(process.pid) ?? 'unknown' };
}

/** Whether the process is, or was, one that this one would see. Machines and containers may have the same name. */
export function isSeenFromHere({ host, started }: ProcessIdentity): boolean {
  if (host !== hostname()) return false;
  return process.platform !== 'linux' || started.startsWith(`${ownSpace()}:`);
}

/** Whether the process is alive. One of another machine or container cannot be asked, and counts as alive. */
export function isAlive(identity: ProcessIdentity): boolean {
  if (identity.host !== hostname() || isInOtherContainer(identity)) return true;
  return processStart(identity.pid) === identity.started;
}

/** A process of the same name of host that began before the machine was started last is no other container's. */
function isInOtherContainer(identity: ProcessIdentity): boolean {
  const [boot] = ownIdentity().started.split(':');
  return identity.started.startsWith(`${boot}:`) && !isSeenFromHere(identity);
}
