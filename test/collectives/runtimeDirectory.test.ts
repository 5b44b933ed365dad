import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { runtimeParent } from '../../packages/collectives/src/runtimeDirectory.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';

test('sockets lie in TMPDIR where their paths fit, and in /tmp where not', (t) => {
  const short = temporaryDirectory(t);
  t.is(runtimeParent(short), short);
  // The longest directory that leaves room for the longest name, and one byte more.
  const room = (process.platform === 'linux' ? 107 : 103) - '/sluice-XXXXXX/rank-99999-4194304'.length;
  const fitting = join(short, 'x'.repeat(room - short.length - 1));
  for (const [directory, expected] of [
    [fitting, fitting],
    [`${fitting}x`, '/tmp'],
  ] as const) {
    mkdirSync(directory);
    t.is(runtimeParent(directory), expected);
  }
});

test('bytes count, not characters', (t) => {
  const directory = join(temporaryDirectory(t), '漢'.repeat(20));
  mkdirSync(directory);
  t.is(runtimeParent(directory), '/tmp');
});

test('a TMPDIR that is missing or a file is a coded error that names it', (t) => {
  const directory = temporaryDirectory(t);
  writeFileSync(join(directory, 'file'), '');
  for (const [name, why] of [
    ['missing', 'does not exist'],
    ['file', 'is a file'],
  ] as const) {
    const path = join(directory, name);
    t.throws(() => runtimeParent(path), {
      code: 'SLUICE_E_TEMPORARY_DIRECTORY',
      message: `The directory of temporary files ${path} ${why}.`,
    });
  }
});
