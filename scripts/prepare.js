/**
 * npm's `prepare`, at the end of a plain `npm ci` or `npm install`: builds what can be built. It never fails the
 * installation: without a compiler, or without the development packages, Sluice says later what is missing.
 */

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { root, run } from './steps.js';

const compiler = join(root, 'node_modules/typescript/bin/tsc');

if (process.env.SLUICE_SKIP_PREPARE === undefined) {
  run(process.execPath, [join(root, 'packages/engine/native/build.js')]);
  if (existsSync(compiler)) {
    const code = run(process.execPath, [compiler, '--build', 'launcher']);
    if (code !== 0) process.stderr.write('TypeScript was not built; run: npm run build\n');
  }
}
