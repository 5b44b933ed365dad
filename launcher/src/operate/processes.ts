/** Processes of this machine that descend from one, as Linux tells of them. */

import { readdirSync, readFileSync } from 'node:fs';

export interface ProcessEntry {
  readonly pid: number;
  readonly parent: number;
  readonly words: readonly string[];
}

/** All processes below `pid`, nearest first. */
export function descendants(pid: number): ProcessEntry[] {
  const all = allProcesses();
  const found: ProcessEntry[] = [];
  for (let parents = [pid]; parents.length > 0; ) {
    const children = all.filter(({ parent }) => parents.includes(parent));
    found.push(...children);
    parents = children.map((child) => child.pid);
  }
  return found;
}

export function isWorker({ words }: Pick<ProcessEntry, 'words'>): boolean {
  return words.some((word) => /[\\/]worker\.js$/.test(word));
}

export function isAgent({ words }: Pick<ProcessEntry, 'words'>): boolean {
  return words.some((word, i) => word.endsWith('sluice.js') && words[i + 1] === 'agent');
}

function allProcesses(): ProcessEntry[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => entry(Number(name)) ?? []);
}

function entry(pid: number): ProcessEntry | undefined {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    if (/^State:\s*Z/m.test(status)) return undefined;
    const parent = Number(/^PPid:\s*(\d+)$/m.exec(status)?.[1]);
    const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').filter(Boolean);
    return { pid, parent, words };
  } catch {
    // It has ended meanwhile.
    return undefined;
  }
}
