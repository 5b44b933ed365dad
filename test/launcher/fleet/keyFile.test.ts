import { chmodSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { newKeyFile, readKeyFile } from '../../../launcher/src/fleet/keyFile.ts';
import { temporaryDirectory } from '../../support/temporaryDirectory.ts';

test('a new key is for its owner only, and is read as it was made', (t) => {
  const file = join(temporaryDirectory(t), 'run.key');
  const keys = newKeyFile(file);
  t.is(statSync(file).mode & 0o777, 0o600);
  t.deepEqual(readKeyFile(file), keys);
});

test('a key that is there is not replaced', (t) => {
  const file = join(temporaryDirectory(t), 'run.key');
  newKeyFile(file);
  const before = readFileSync(file, 'utf8');
  t.throws(() => newKeyFile(file), { code: 'SLUICE_E_OUTPUT_EXISTS' });
  t.is(readFileSync(file, 'utf8'), before);
});

test('a key that others may read is refused; that of a secret’s volume, which its group may, is not', (t) => {
  const file = join(temporaryDirectory(t), 'run.key');
  const keys = newKeyFile(file);
  chmodSync(file, 0o644);
  t.throws(() => readKeyFile(file), { code: 'SLUICE_E_KEY_FILE' });
  chmodSync(file, 0o440);
  t.deepEqual(readKeyFile(file), keys);
});
