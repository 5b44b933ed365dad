/** What can be seen to be missing before a long computation is begun. */

import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { SluiceError } from '@sluice/core';

/** @throws SLUICE_E_FILE_MISSING */
export function refuseMissing(path: string): void {
  if (existsSync(path)) return;
  throw new SluiceError('SLUICE_E_FILE_MISSING', `There is no ${resolve(path)}.`, { details: { path } });
}
