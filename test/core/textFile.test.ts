import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadYamlConfig, readTextFile, readTextParts } from '@sluice/core';
import test from 'ava';
import { z } from 'zod';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';

test('the text comes without a byte order mark', (t) => {
  const path = join(temporaryDirectory(t), 'a.txt');
  writeFileSync(path, '\ufeffcafé');
  t.is(readTextFile(path), 'café');
});

test('in parts, a character may be cut between two of them', async (t) => {
  const path = join(temporaryDirectory(t), 'a.txt');
  const text = `${'a'.repeat(2 ** 20 - 1)}é and more`;
  writeFileSync(path, text);
  const [read, parts] = [[] as number[], [] as string[]];
  for await (const part of readTextParts(path, (bytes) => read.push(bytes))) parts.push(part);
  t.is(parts.join(''), text);
  t.deepEqual(read, [2 ** 20, Buffer.byteLength(text)]);
  writeFileSync(path, Buffer.from('caf\xe9', 'latin1'));
  const latin = readTextParts(path);
  await latin.next();
  await t.throwsAsync(latin.next(), { code: 'SLUICE_E_DATA_ENCODING' });
});

test('what cannot be read is told with the reason and the place that names it', (t) => {
  const directory = temporaryDirectory(t);
  const missing = join(directory, 'a.txt');
  t.throws(() => readTextFile(missing), {
    code: 'SLUICE_E_FILE_MISSING',
    message: `The file ${missing} does not exist.`,
  });
  t.throws(() => readTextFile(missing, 'run.yaml:1:2'), {
    message: `The file ${missing}, named at run.yaml:1:2, does not exist.`,
  });
  t.throws(() => readTextFile(directory), {
    code: 'SLUICE_E_FILE_MISSING',
    message: `The file ${directory} is a directory.`,
  });
});

test('text that is not UTF-8 is refused by name, in a configuration too', (t) => {
  const path = join(temporaryDirectory(t), 'latin1.yaml');
  writeFileSync(path, Buffer.from('name: caf\xe9', 'latin1'));
  const refusal = { code: 'SLUICE_E_DATA_ENCODING', message: `The file ${path} is not UTF-8 text.` };
  t.throws(() => readTextFile(path), refusal);
  t.throws(() => loadYamlConfig(path, z.looseObject({})), refusal);
});
