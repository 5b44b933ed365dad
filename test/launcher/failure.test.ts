/** Whatever is thrown, wherever, comes out as one coded error that says what was being done. */

import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { SluiceError } from '@sluice/core';
import test from 'ava';
import { codedFailure } from '../../launcher/src/cli/failure.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';

const words = ['train', 'a b.yaml', '--workers', '2'];

test('an unforeseen error tells the command and the run, and its stack is in a file there', (t) => {
  const directory = temporaryDirectory(t);
  const cause = new TypeError('x is not a function', { cause: new Error('the root') });
  const failure = codedFailure(cause, { words, directory });
  t.is(failure.code, 'SLUICE_E_UNEXPECTED');
  t.regex(failure.message, /^sluice train 'a b\.yaml' --workers 2 failed in the run .*TypeError: x is not/);
  const [file] = readdirSync(directory);
  t.true(failure.message.endsWith(`The stack is in ${join(directory, file!)}`));
  const written = readFileSync(join(directory, file!), 'utf8');
  t.regex(
    written,
    /^sluice train a b\.yaml[\s\S]*TypeError: x is not a function\n\s+at [\s\S]*caused by: Error: the root/,
  );
  t.is(failure.cause, cause);
});

test('a stack that can be written nowhere is shown', (t) => {
  const failure = codedFailure(new Error('broken'), { words, directory: '/nonexistent' });
  t.regex(failure.message, /could not be written:\nError: broken\n\s+at /);
});

test('what is no error at all is told too', (t) => {
  for (const thrown of ['words', undefined, null, 7, { code: 3 }]) {
    t.is(codedFailure(thrown, { words, directory: '/nonexistent' }).code, 'SLUICE_E_UNEXPECTED');
  }
});

test('a coded error stays as it is; the stack of a worker’s bug goes into a file', (t) => {
  const directory = temporaryDirectory(t);
  const coded = new SluiceError('SLUICE_E_RUN_EXISTS', 'taken');
  t.is(codedFailure(coded, { words, directory }), coded);
  t.deepEqual(readdirSync(directory), []);
  const worker = new SluiceError('SLUICE_E_WORKER_FAILED', 'Rank 1 failed in step: no', {
    details: { stack: 'Error: no\n    at worker.js:1' },
  });
  const told = codedFailure(worker, { words, directory });
  t.is(told.code, 'SLUICE_E_WORKER_FAILED');
  t.regex(told.message, /^Rank 1 failed in step: no\n {2}The stack is in /);
  t.regex(readFileSync(join(directory, readdirSync(directory)[0]!), 'utf8'), /at worker\.js:1/);
});

for (const [errno, syscall, path, code] of [
  ['ENOSPC', 'write', undefined, 'SLUICE_E_DISK_FULL'],
  ['EMFILE', 'open', '/a', 'SLUICE_E_TOO_MANY_FILES'],
  ['EACCES', 'mkdir', '/a', 'SLUICE_E_FILE_UNWRITABLE'],
  ['EACCES', 'open', '/a', 'SLUICE_E_FILE_MISSING'],
  ['ENOTDIR', 'scandir', '/a', 'SLUICE_E_FILE_MISSING'],
  ['ENOENT', 'uv_cwd', undefined, 'SLUICE_E_WORKING_DIRECTORY'],
  ['ECONNREFUSED', 'connect', undefined, 'SLUICE_E_UNEXPECTED'],
] as const) {
  test(`${errno} at ${syscall} is ${code}`, (t) => {
    const error = Object.assign(new Error(errno), { code: errno, syscall, path });
    const failure = codedFailure(error, { words, directory: '/nonexistent' });
    t.is(failure.code, code);
    if (path !== undefined) t.true(failure.message.includes(path));
  });
}

const MAIN = new URL('../../launcher/bundle/main.js', import.meta.url).href;

for (const [name, act] of [
  ['an event handler', `setImmediate(() => { throw new TypeError('boom'); })`],
  ['a promise that nobody waits for', `Promise.reject(new TypeError('boom'))`],
] as const) {
  for (const json of [false, true]) {
    test(`what escapes from ${name} ends the process with a coded error${json ? ' as JSON' : ''}`, (t) => {
      const program = `
        const { runProcess } = await import(${JSON.stringify(MAIN)});
        ${act};
        await runProcess(['doctor'${json ? ", '--json'" : ''}]);
      `;
      const { status, stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
        encoding: 'utf8',
        env: { ...process.env, TMPDIR: temporaryDirectory(t), SLUICE_DEBUG: '' },
      });
      t.is(status, 1);
      t.regex(stderr, /^error SLUICE_E_UNEXPECTED: sluice doctor.*boom\n {2}The stack is in /);
      t.notRegex(stderr, /\n\s+at /);
      if (json) t.is(JSON.parse(stdout).error.code, 'SLUICE_E_UNEXPECTED');
      else t.is(stdout, '');
    });
  }
}
