/** The version that `sluice --version` shows. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { sluiceRoot } from '@sluice/core';

export const PACKAGE_VERSION: string = JSON.parse(
  readFileSync(join(sluiceRoot, 'package.json'), 'utf8'),
).version;
