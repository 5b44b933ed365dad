/**
 * npm's `prepare`, at the end of a plain `npm ci` or `npm install`: builds what can be built. It never fails the
 * installation: without a compiler, or without the development packages, Sluice says later what is missing.
 */

import { existsSync } from 'node:fs';
import { BUILD_STEPS, run } from './steps.js';

if (process.env.SLUICE_SKIP_PREPARE === undefined) {
  for (const [program, ...args] of BUILD_STEPS) {
    // The tools of the build are development packages.
    if (!existsSync(program)) break;
    if (run(process.execPath, [program, ...args]) === 0) continue;
    process.stderr.write('Sluice was not built whole; run: npm run build\n');
    break;
  }
}
