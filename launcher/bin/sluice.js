#!/usr/bin/env node
import { existsSync } from 'node:fs';

const main = new URL('../dist/main.js', import.meta.url);
if (!existsSync(main)) {
  process.stderr.write('Sluice is not built yet. Run `npm run build` in the repository first.\n');
  process.exit(1);
}
try {
  // yargs asks for it as soon as it is loaded.
  process.cwd();
} catch {
  process.stderr.write(
    'error SLUICE_E_WORKING_DIRECTORY: The current directory is gone.\n' +
      '  Change to a directory that exists (`cd`), and repeat the command.\n',
  );
  process.exit(1);
}
const { runProcess } = await import(main.href);
process.exitCode = await runProcess(process.argv.slice(2));
