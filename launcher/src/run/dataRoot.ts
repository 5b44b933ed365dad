/** Where corpora are kept. */

import { join, resolve } from 'node:path';
import { isInstalledPackage, sluiceRoot } from '@sluice/core';

export interface DataRoots {
  /** Prepared corpora, each in a folder of its recipe's name. */
  readonly outputRoot: string;
  /** Downloaded packages. */
  readonly downloadRoot: string;
}

/**
 * SLUICE_DATA, or the repository's `data/`, wherever a command is run from, so that all runs share what was prepared. An installed
 * package keeps nothing in itself, which the next installation would remove: there it is the `data/` of the working directory.
 */
export function dataRoots(environment: NodeJS.ProcessEnv = process.env): DataRoots {
  const root = environment.SLUICE_DATA ?? join(isInstalledPackage() ? '' : sluiceRoot, 'data');
  return { outputRoot: resolve(join(root, 'prepared')), downloadRoot: resolve(join(root, 'downloads')) };
}
