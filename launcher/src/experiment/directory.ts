/**
 * Where experiments keep what they have done: `experiments/` with a folder for each experiment's results, and one for all runs, so
 * that a run that two experiments have in common is there once.
 */

import { basename, join, resolve } from 'node:path';
import type { Cell } from './cells.ts';
import type { ExperimentScale } from './config.ts';

/** Digits of a key that name a run's folder. */
const KEY_DIGITS = 16;

export interface ExperimentFolder {
  readonly path: string;
  readonly lock: string;
  readonly results: string;
}

/** Where one run of an experiment lies. */
export interface CellFolder {
  readonly path: string;
  /** What the run is started with. */
  readonly config: string;
  /** The run's directory. */
  readonly run: string;
  /** What it came to; there once it is done. */
  readonly result: string;
}

/** @param root `experiments` when nothing else is asked for */
export function experimentFolder(
  root: string,
  experimentFile: string,
  scale: ExperimentScale,
): ExperimentFolder {
  const path = join(resolve(root), `${experimentName(experimentFile)}-${scale}`);
  return { path, lock: join(resolve(root), 'lock'), results: join(path, 'results.json') };
}

export function experimentName(experimentFile: string): string {
  return basename(experimentFile).replace(/\.(ya?ml|json)$/, '');
}

export function cellFolder(root: string, { key }: Pick<Cell, 'key'>): CellFolder {
  const path = join(resolve(root), 'runs', key.slice(0, KEY_DIGITS));
  return {
    path,
    config: join(path, 'start.yaml'),
    run: join(path, 'run'),
    result: join(path, 'result.json'),
  };
}
