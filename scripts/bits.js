/** `npm run bits`: stores what every operation and training gives as what `test/bits` expects. */

import { join } from 'node:path';
import { root, runOrExit, setup } from './steps.js';

setup();
runOrExit(process.execPath, ['--import=tsx', join(root, 'test/bits/print.ts'), '--write']);
