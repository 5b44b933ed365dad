#!/usr/bin/env node
import { existsSync } from 'node:fs';

const main = new URL('../dist/main.js', import.meta.url);
if (!existsSync(main)) {
  process.stderr.write('Sluice is not built yet. Run `npm run build` in the repository first.\n');
  process.exit(1);
}
const { main: run, outliveReaders } = await import(main.href);
outliveReaders([process.stdout, process.stderr]);
process.exitCode = await run(process.argv.slice(2));
