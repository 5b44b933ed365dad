import { existsSync, mkdirSync, readdirSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { writeShard } from '@sluice/checkpoint';
import { openDataset, prepareData } from '@sluice/data';
import test, { type ExecutionContext } from 'ava';
import { Collection } from '../../launcher/src/coordinator/collection.ts';
import type { Host } from '../../launcher/src/fleet/host.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';
import { filesOf } from './fleet/support/filesOf.ts';

/** A host apart, its folder, and the means to bring to it and fetch from it. */
function hostApart(t: ExecutionContext, isStopped = () => false) {
  const folder = temporaryDirectory(t);
  const host = { name: 'h1', files: filesOf(folder) } as unknown as Host;
  const told: string[] = [];
  const collection = new Collection({
    ...{ run: 'r', placements: [{ host, ranks: [0] }], isStopped },
    tell: (line) => told.push(line),
  });
  return { folder, told, collection };
}

/** A corpus of a few sentences. */
async function corpusOf(t: ExecutionContext, sentence: string) {
  const directory = temporaryDirectory(t);
  writeFileSync(join(directory, 'a.txt'), `${sentence}\n`.repeat(200));
  const recipe = join(directory, 'recipe.yaml');
  writeFileSync(
    recipe,
    'name: tiny\nsources: [{ kind: text, path: a.txt }]\ntokenizer: { kind: train, vocabularySize: 300 }\nvalidation: { fraction: 0 }\n',
  );
  const roots = { outputRoot: join(directory, 'prepared'), downloadRoot: join(directory, 'downloads') };
  return prepareData(recipe, roots);
}

test('a corpus is brought once, is the same there, and stays for later runs', async (t) => {
  const { folder, told, collection } = hostApart(t);
  const corpus = await corpusOf(t, 'the river turns the mill');
  for (let i = 0; i < 2; i++) await collection.bring({ corpora: [corpus] });
  t.is(told.length, 1);
  const there = openDataset(join(folder, 'collected', 'corpora', corpus.manifestHash));
  t.teardown(() => there.close());
  t.is(there.manifestHash, corpus.manifestHash);
  t.notThrows(() => there.verify());
  t.deepEqual(readdirSync(join(folder, 'data')), ['tiny']);
});

test('another corpus of the same name stays beside it', async (t) => {
  const { folder, collection } = hostApart(t);
  const first = await corpusOf(t, 'the river turns the mill');
  const second = await corpusOf(t, 'the gate holds the water');
  for (const corpus of [first, second]) await collection.bring({ corpora: [corpus] });
  t.deepEqual(readdirSync(join(folder, 'data')).sort(), ['tiny', `tiny-${second.manifestHash.slice(0, 8)}`]);
});

test('a corpus that is not whole here does not become one there', async (t) => {
  const { folder, collection } = hostApart(t);
  const corpus = await corpusOf(t, 'the river turns the mill');
  const shard = readdirSync(corpus.directory).find((name) => /train/.test(name))!;
  writeFileSync(join(corpus.directory, shard), Buffer.alloc(10));
  await t.throwsAsync(collection.bring({ corpora: [corpus] }), { code: 'SLUICE_E_DATA_DAMAGED' });
  t.deepEqual(readdirSync(join(folder, 'data')), []);
});

test('whoever stops the run does not wait for what is being brought', async (t) => {
  const { collection } = hostApart(t, () => true);
  const corpus = await corpusOf(t, 'the river turns the mill');
  await t.throwsAsync(collection.bring({ corpora: [corpus] }), { code: 'SLUICE_E_INTERRUPTED' });
});

test('a shard is fetched as it was written, or refused; what was read once is taken away', async (t) => {
  const { folder, collection } = hostApart(t);
  const here = temporaryDirectory(t);
  const save = join(folder, 'collected', 'save');
  mkdirSync(save, { recursive: true });
  const tensor = { name: 'w', shape: [1000] };
  const values = Float32Array.from({ length: 1000 }, (_, i) => i);
  const shard = await writeShard(save, 0, [{ tensor, kind: 'parameter', begin: 0, end: 1000, values }]);
  await collection.fetch(here, [shard]);
  t.deepEqual(readdirSync(here), [shard.file]);
  t.false(existsSync(save));

  mkdirSync(save);
  await writeShard(save, 0, [{ tensor, kind: 'parameter', begin: 0, end: 1000, values }]);
  truncateSync(join(save, shard.file), shard.size - 400);
  await t.throwsAsync(collection.fetch(temporaryDirectory(t), [shard]), {
    code: 'SLUICE_E_WORKER_FAILED',
    message: /The shard of worker 0 is not what it wrote when it comes from h1/,
  });
});
