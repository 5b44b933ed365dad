/** A file system of its own that can be filled, where the system lets it be mounted (on Linux, as root). */

import { spawnSync } from 'node:child_process';
import { closeSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { temporaryDirectory } from './temporaryDirectory.ts';

export interface SmallDisk {
  readonly path: string;
  /** Takes all the room that is left. */
  fill(): void;
  /** Gives it back. */
  free(): void;
}

export function smallDisk(t: Pick<ExecutionContext, 'teardown'>, size = '1m'): SmallDisk | undefined {
  // Removed after it was unmounted: what is to be torn down last is named first.
  const path = temporaryDirectory(t);
  if (process.platform !== 'linux') return undefined;
  const { status } = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', path], {
    stdio: 'ignore',
  });
  if (status !== 0) return undefined;
  t.teardown(() => {
    spawnSync('umount', ['-l', path], { stdio: 'ignore' });
  });
  const ballast = join(path, 'ballast');
  return {
    path,
    fill() {
      const file = openSync(ballast, 'w');
      const block = Buffer.alloc(4096);
      try {
        for (;;) writeSync(file, block);
      } catch {
        closeSync(file);
      }
    },
    free: () => rmSync(ballast),
  };
}
