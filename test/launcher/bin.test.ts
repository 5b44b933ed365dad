/** What keeps the command line from being loaded is told before it is tried. */

import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';

const bin = fileURLToPath(new URL('../../launcher/bin/sluice.js', import.meta.url));

/** Runs `sluice count x` from a shell script, in which it is "$@". */
function inShell(script: string, ...flags: string[]) {
  const words = ['-c', script, 'sh', process.execPath, bin, 'count', 'x', ...flags];
  return spawnSync('sh', words, { encoding: 'utf8' });
}

if (process.platform === 'linux') {
  test('a current directory that is gone is a coded error', (t) => {
    const directory = `${temporaryDirectory(t)}/gone`;
    const { status, stderr } = inShell(
      `mkdir '${directory}' && cd '${directory}' && rmdir '${directory}' && "$@"`,
    );
    t.is(status, 1);
    t.regex(stderr, /^error SLUICE_E_WORKING_DIRECTORY: The current directory .*\n {2}Change to a directory/);
  });

  test('too few files that may be opened are a coded error with their number', (t) => {
    const { status, stdout, stderr } = inShell('ulimit -n 64; "$@"', '--json');
    t.is(status, 1);
    t.is(stderr, '');
    const { error } = JSON.parse(stdout);
    t.is(error.code, 'SLUICE_E_TOO_MANY_FILES');
    t.regex(error.message, /may open 64 files/);
  });

  test('with as many as are asked for, commands run', (t) => {
    const { stderr } = inShell('ulimit -n 192; "$@"');
    t.regex(stderr, /^error SLUICE_E_FILE_MISSING: The file x does not exist/);
  });
}
