/** Where corpora are kept. */

import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

export interface DataRoots {
  /** Prepared corpora, each in a folder of its recipe's name. */
  readonly outputRoot: string;
  /** Downloaded packages. */
  readonly downloadRoot: string;
}

/**
 * The repository's `data/`, wherever a command is run from, so that all runs share what was prepared; SLUICE_DATA names
 * another directory.
 */
export function dataRoots(environment: NodeJS.ProcessEnv = process.env): DataRoots {
  const root = environment.SLUICE_DATA ?? fileURLToPath(new URL('../../../data', import.meta.url));
  return { outputRoot: resolve(join(root, 'prepared')), downloadRoot: resolve(join(root, 'downloads')) };
}
