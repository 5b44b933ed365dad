/** What is kept of compiled kernels. */

import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { cachedFile, cacheFolder, cachingCompiler } from '@sluice/engine/cuda';
import test from 'ava';

const PREFIX = `cacheTest-${process.pid}`;

test.after.always(() => {
  for (const file of readdirSync(cacheFolder)) if (file.startsWith(PREFIX)) rmSync(join(cacheFolder, file));
});

test('who makes a file while another process of the same number does, on another host, does not take it away', (t) => {
  const name = `${PREFIX}-twice`;
  const path = cachedFile(name, (own) => {
    writeFileSync(own, 'machine code');
    cachedFile(name, (other) => writeFileSync(other, 'machine code'));
  });
  t.is(readFileSync(path, 'utf8'), 'machine code');
  t.deepEqual(
    readdirSync(cacheFolder).filter((file) => file.startsWith(name)),
    [name],
  );
});

test('machine code that cannot be kept is used nevertheless, which is said once', async (t) => {
  const warnings: string[] = [];
  const note = ({ message }: Error) => warnings.push(message);
  process.on('warning', note);
  t.teardown(() => process.off('warning', note));
  const compiler = cachingCompiler('sm_90a', 13_000, () => ({
    version: '13.5',
    compilerFor: () => ({ compile: ({ text }) => Buffer.from(text) }),
  }));
  // Of a name that no file may have.
  const source = (text: string) => ({ name: `${PREFIX}${'x'.repeat(300)}`, text });
  for (const text of ['one', 'two']) t.is(Buffer.from(compiler.compile(source(text))).toString(), text);
  await new Promise(setImmediate);
  t.is(warnings.length, 1);
  t.regex(warnings[0]!, /machine code cannot be kept.*Cannot write .*ENAMETOOLONG/);
});
