/**
 * `npm run bits`: after a change that means other bits, makes those of now the expected ones: of every operation and training
 * that `test/bits` computes, and of the quickstart, which must be finished.
 */

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { storeBits } from './quickstartBits.js';
import { root, runOrExit, setup } from './steps.js';
import { scriptWords } from './words.js';

const run = 'runs/quickstart';

scriptWords(import.meta.url);
setup();
runOrExit(process.execPath, ['--import=tsx', join(root, 'test/bits/print.ts'), '--write']);
if (existsSync(join(root, run, 'report.html'))) storeBits(run);
else process.stderr.write(`There is no finished ${run}: npm start, then npm run bits again.\n`);
