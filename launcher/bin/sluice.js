#!/usr/bin/env node
/** Starts the command line, once it is certain that it can be loaded. */

import { existsSync, readFileSync } from 'node:fs';

/** Loading the modules opens many files at once; fewer than this fail in the middle, wherever that happens to be. */
const LEAST_OPEN_FILES = 192;

/** Slurm sends it to all processes of a job, at any moment, and until somebody listens Node.js opens its debugger at it. */
const asked = [];
process.on('SIGUSR1', (signal) => asked.push(signal));

const main = new URL('../bundle/main.js', import.meta.url);
if (!existsSync(main)) {
  process.stderr.write('Sluice is not built yet. Run `npm run build` in the repository first.\n');
  process.exit(1);
}
if (!hasWorkingDirectory()) {
  refuse(
    'SLUICE_E_WORKING_DIRECTORY',
    'The current directory cannot be found any more.',
    'Change to a directory that exists (`cd`), and repeat the command.',
  );
}
const openFiles = openFilesLimit();
if (openFiles < LEAST_OPEN_FILES) {
  refuse(
    'SLUICE_E_TOO_MANY_FILES',
    `This process may open ${openFiles} files; Sluice needs ${LEAST_OPEN_FILES} at least.`,
    'Raise the limit (`ulimit -n 1024`; with systemd, LimitNOFILE=).',
  );
}
const { runProcess } = await import(main.href);
process.exitCode = await runProcess(process.argv.slice(2), asked);

function hasWorkingDirectory() {
  try {
    process.cwd();
    return true;
  } catch {
    return false;
  }
}

/** Infinity where the system does not tell. */
function openFilesLimit() {
  try {
    const limit = readFileSync('/proc/self/limits', 'latin1').match(/^Max open files\s+(\d+)/m)?.[1];
    return limit === undefined ? Number.POSITIVE_INFINITY : Number(limit);
  } catch {
    return Number.POSITIVE_INFINITY;
  }
}

/** As the command line tells its errors, which cannot be loaded here. */
function refuse(code, message, advice) {
  if (process.argv.includes('--json')) {
    process.stdout.write(`${JSON.stringify({ error: { code, message, advice, details: {} } })}\n`);
  } else process.stderr.write(`error ${code}: ${message}\n  ${advice}\n`);
  process.exit(1);
}
