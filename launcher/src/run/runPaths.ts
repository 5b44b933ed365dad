/** Paths in the files of a run are relative to its directory, so that a run that was moved or copied means the same. */

import { realpathSync } from 'node:fs';
import { basename, dirname, isAbsolute, join, relative, resolve } from 'node:path';
import type { RunConfig } from '@sluice/train';

/** A path as a run's files have it: from the run's directory. */
export function pathInRun(runDir: string, path: string): string {
  return relative(real(runDir), join(real(dirname(resolve(path))), basename(path))) || '.';
}

/** A message as a run's files have it: paths of the run are from its directory, which is `.` itself. */
export function messageInRun(runDir: string, message: string): string {
  return [...new Set([resolve(runDir), real(runDir)])].reduce((text, directory) => {
    const escaped = directory.replaceAll(/[\\^$.*+?()[\]{}|]/g, '\\$&');
    const paths = new RegExp(`(?<![\\w./-])${escaped}(?:(/)|(?![\\w-]|\\.\\w))`, 'g');
    return text.replaceAll(paths, (_, slash?: string) => (slash ? '' : '.'));
  }, message);
}

/** The absolute path of one in a run's files. */
export function pathFromRun(runDir: string, written: string): string {
  return isAbsolute(written) ? written : resolve(real(runDir), written);
}

/** A run's configuration as its files have it. */
export function configInRun(runDir: string, config: RunConfig): RunConfig {
  return withPaths(config, (path) => pathInRun(runDir, path));
}

/** A configuration of a run's files, with absolute paths. */
export function configFromRun(runDir: string, config: RunConfig): RunConfig {
  return withPaths(config, (path) => pathFromRun(runDir, path));
}

/** The configuration with each of its paths replaced. */
function withPaths(config: RunConfig, replace: (path: string) => string): RunConfig {
  const { data, initialize, hosts } = config;
  return {
    ...config,
    initialize:
      initialize.from === undefined ? initialize : { ...initialize, from: replace(initialize.from) },
    data: {
      ...data,
      ...(data.recipe !== undefined && { recipe: replace(data.recipe) }),
      ...(data.mixture && { mixture: { ...data.mixture, recipes: data.mixture.recipes.map(replace) } }),
    },
    hosts: {
      ...hosts,
      ...(hosts.file !== undefined && { file: replace(hosts.file) }),
      ...(hosts.keyFile !== undefined && { keyFile: replace(hosts.keyFile) }),
    },
  };
}

/** A directory without symbolic links, through which `..` would lead elsewhere; as it is where it does not exist. */
function real(directory: string): string {
  try {
    return realpathSync(directory);
  } catch {
    return resolve(directory);
  }
}
