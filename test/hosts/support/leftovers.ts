/** Names of labs, which tell whose they are, so that what a process left that was killed can be found and removed. */

import { existsSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Freezer } from './freezer.ts';
import { attempt } from './run.ts';

const NAMESPACES = '/run/netns';

let labs = 0;

/** What all names of a new lab of this process begin with. */
export function newPrefix(): string {
  labs += 1;
  return `sluice-lab-${process.pid}-${labs}`;
}

export function labFolder(prefix: string): string {
  return join(tmpdir(), prefix);
}

/** Removes names and files of labs whose process is dead; their hosts end with it, once they are not frozen. */
export async function removeLeftovers(): Promise<void> {
  for (const name of leftIn(Freezer.root)) await new Freezer(name).remove();
  for (const name of leftIn(NAMESPACES)) attempt('ip', 'netns', 'del', name);
  for (const name of leftIn(tmpdir())) rmSync(join(tmpdir(), name), { recursive: true, force: true });
}

function leftIn(folder: string): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder).filter((name) => {
    const owner = /^sluice-lab-(\d+)-/.exec(name)?.[1];
    return owner !== undefined && !existsSync(`/proc/${owner}`);
  });
}
