/** Control groups of Linux that this process is in, whose files hold the limits of its container. */

import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

export interface ControlGroup {
  readonly version: 1 | 2;
  readonly directory: string;
}

/**
 * The process's groups for a controller, such as `cpu`, and all above them. In a container, names below the mount may be the host's.
 * @param root where the system's files /proc and /sys lie; tests name another place
 */
export function controlGroups(root: string, controller: string): ControlGroup[] {
  const found: ControlGroup[] = [];
  for (const line of (readIfThere(join(root, 'proc/self/cgroup')) ?? '0::/').split('\n')) {
    // hierarchy:controllers:path; version 2 has no list of controllers.
    const [, controllers, path] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    if (controllers === undefined || path === undefined) continue;
    const all = (version: 1 | 2, mount: string) =>
      found.push(
        ...withAbove(join(root, 'sys/fs/cgroup', mount), path).map((directory) => ({ version, directory })),
      );
    if (controllers === '') all(2, '');
    else if (controllers.split(',').includes(controller))
      for (const mount of [controllers, controller]) all(1, mount);
  }
  return found;
}

function withAbove(mount: string, path: string): string[] {
  const directories = [mount];
  for (let at = path; at !== '/' && at !== '.'; at = dirname(at)) directories.push(join(mount, at));
  return directories;
}

export function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return undefined;
  }
}
