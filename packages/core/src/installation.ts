/** Where the files lie that come with Sluice: in a clone of the repository, or in a package that was installed from it. */

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The folder that holds `configs/`, `launcher/` and `packages/`. */
export const sluiceRoot = fileURLToPath(new URL('../../..', import.meta.url));

/** Whether Sluice was installed as a package, which has neither sources nor the scripts that build them. */
export function isInstalledPackage(): boolean {
  return !existsSync(join(sluiceRoot, 'scripts'));
}
