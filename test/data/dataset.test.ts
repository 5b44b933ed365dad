import fs, { readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { join } from 'node:path';
import { SluiceError } from '@sluice/core';
import { DataConfig, loadTokenizer, openDataset, openRunData, prepareData } from '@sluice/data';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { stories, TestFolder } from './support/folder.ts';

const TEXTS = stories(120);

async function prepared(t: ExecutionContext, fields: Record<string, unknown> = {}): Promise<string> {
  const folder = new TestFolder(t);
  const recipe = folder.jsonlRecipe(TEXTS, { shardTokens: 97, ...fields });
  return (await prepareData(recipe, folder.options)).directory;
}

/** The tokens of a split, straight from the shard files. */
function tokensOf(directory: string, split: 'train' | 'validation'): number[] {
  return openDataset(directory).manifest.splits[split].shards.flatMap(({ file }) => {
    const bytes = readFileSync(join(directory, file));
    return Array.from({ length: bytes.length / 2 }, (_, i) => bytes.readUInt16LE(2 * i));
  });
}

test('samples are the sequences of the split, in the order of the permutation, across shards', async (t) => {
  const directory = await prepared(t);
  const tokens = tokensOf(directory, 'train');
  const dataset = openDataset(directory);
  t.true(dataset.manifest.splits.train.shards.length > 5);
  for (const sequenceLength of [2, 33, 250]) {
    const sampler = dataset.sampler({ split: 'train', sequenceLength, seed: 5 });
    const sample = new Int32Array(sequenceLength + 1);
    t.is(sampler.numSequences, Math.floor((tokens.length - 1) / sequenceLength));
    for (let i = 0; i < sampler.numSequences; i++) {
      sampler.read(i, sample);
      const start = sampler.locate(i).sequence * sequenceLength;
      t.deepEqual([...sample], tokens.slice(start, start + sequenceLength + 1));
    }
  }
});

test('another corpus that takes the place of one that is read is refused, an equal one is not', async (t) => {
  const folder = new TestFolder(t);
  const recipe = folder.jsonlRecipe(TEXTS);
  const { directory, manifestHash } = await prepareData(recipe, folder.options);
  const dataset = openDataset(directory);
  const sample = new Int32Array(17);
  const read = (split: 'train' | 'validation') =>
    dataset.sampler({ split, sequenceLength: 16, seed: 0 }).read(0, sample);
  await prepareData(recipe, { ...folder.options, force: true });
  read('train');
  await prepareData(folder.jsonlRecipe(stories(121)), folder.options);
  // Its file is open.
  read('train');
  t.throws(() => read('validation'), { code: 'SLUICE_E_DATASET_CHANGED', message: /was prepared anew/ });
  const lost = openDataset(directory);
  rmSync(join(directory, 'train-00000.bin'));
  t.throws(() => lost.sampler({ split: 'train', sequenceLength: 16, seed: 0 }).read(0, sample), {
    code: 'SLUICE_E_DATA_DAMAGED',
    message: /train-00000\.bin is damaged: it cannot be opened \(ENOENT\)/,
  });
  await prepareData(recipe, folder.options);
  const data = DataConfig.parse({ recipe, sequenceLength: 16 });
  t.throws(() => openRunData(data, 0, [directory], manifestHash), { code: 'SLUICE_E_DATASET_CHANGED' });
  dataset.close();
});

test('any number of workers, each reading its part of every step, sees every sequence once an epoch', async (t) => {
  const dataset = openDataset(await prepared(t));
  const batch = 8;
  for (const workers of [1, 2, 4, 8]) {
    const seen: number[] = [];
    const sampler = dataset.sampler({ split: 'train', sequenceLength: 16, seed: 3 });
    for (let step = 0; step * batch < sampler.numSequences; step++) {
      for (let rank = 0; rank < workers; rank++) {
        const share = batch / workers;
        for (let i = 0; i < share; i++) {
          const index = step * batch + rank * share + i;
          if (index < sampler.numSequences) seen.push(sampler.locate(index).sequence);
        }
      }
    }
    t.deepEqual(
      seen.toSorted((a, b) => a - b),
      Array.from({ length: sampler.numSequences }, (_, i) => i),
    );
  }
});

test('a reader that starts at any sample goes on as one that read from the beginning', async (t) => {
  const directory = await prepared(t);
  const whole = openDataset(directory).sampler({ split: 'train', sequenceLength: 16, seed: 3 });
  const all = Array.from({ length: 2 * whole.numSequences + 5 }, (_, i) => {
    const sample = new Int32Array(17);
    whole.read(i, sample);
    return sample;
  });
  fc.assert(
    fc.property(fc.integer({ min: 0, max: all.length - 3 }), (start) => {
      const resumed = openDataset(directory);
      const sampler = resumed.sampler({ split: 'train', sequenceLength: 16, seed: 3 });
      const sample = new Int32Array(17);
      for (let i = start; i < start + 3; i++) {
        sampler.read(i, sample);
        t.deepEqual(sample, all[i]);
      }
      resumed.close();
    }),
    { numRuns: 30 },
  );
});

test('each epoch has its own order, as each seed has; validation is read in plain order', async (t) => {
  const dataset = openDataset(await prepared(t));
  const order = (split: 'train' | 'validation', seed: number, epoch: number): number[] => {
    const sampler = dataset.sampler({ split, sequenceLength: 16, seed });
    return Array.from({ length: sampler.numSequences }, (_, i) => {
      const place = sampler.locate(epoch * sampler.numSequences + i);
      t.is(place.epoch, epoch);
      return place.sequence;
    });
  };
  const plain = (numbers: number[]) => numbers.toSorted((a, b) => a - b);
  t.notDeepEqual(order('train', 1, 0), order('train', 1, 1));
  t.notDeepEqual(order('train', 1, 0), order('train', 2, 0));
  t.deepEqual(plain(order('train', 1, 0)), plain(order('train', 1, 7)));
  t.deepEqual(order('validation', 1, 0), plain(order('validation', 2, 3)));
});

test('provenance names the documents whose text the sample holds', async (t) => {
  const directory = await prepared(t);
  const dataset = openDataset(directory);
  const tokenizer = loadTokenizer(dataset.tokenizerPath);
  const sampler = dataset.sampler({ split: 'train', sequenceLength: 40, seed: 9 });
  const sample = new Int32Array(41);
  for (let i = 0; i < sampler.numSequences; i++) {
    sampler.read(i, sample);
    const { documents, shards, sequence, epoch } = sampler.provenance(i);
    t.deepEqual({ epoch, sequence }, sampler.locate(i));
    t.is(documents[0]!.sampleStart, 0);
    t.is(documents.at(-1)!.sampleEnd, 41);
    t.is(
      shards.reduce((sum, { start, end }) => sum + end - start, 0),
      41,
    );
    for (const document of documents) {
      const text = TEXTS[Number(/docs\.jsonl:(\d+)$/.exec(document.name)![1]) - 1]!;
      const ids = [...tokenizer.encodeOrdinary(text), tokenizer.endOfTextId];
      t.is(document.source, 'docs.jsonl');
      t.deepEqual(
        [...sample.subarray(document.sampleStart, document.sampleEnd)],
        ids.slice(document.documentStart, document.documentEnd),
      );
    }
  }
});

test.serial('no read is larger than the sequence asked for, however large the corpus', async (t) => {
  const directory = await prepared(t, { shardTokens: 2 ** 25 });
  const dataset = openDataset(directory);
  const sequenceLength = 32;
  const sampler = dataset.sampler({ split: 'train', sequenceLength, seed: 2 });
  const lengths: number[] = [];
  const { readSync, readFileSync: readWhole } = fs;
  fs.readSync = ((
    file: number,
    buffer: NodeJS.ArrayBufferView,
    offset: number,
    length: number,
    position: number,
  ) => {
    lengths.push(length);
    return readSync(file, buffer, offset, length, position);
  }) as typeof readSync;
  fs.readFileSync = (() => t.fail('a whole file was read')) as unknown as typeof readWhole;
  syncBuiltinESMExports();
  try {
    const sample = new Int32Array(sequenceLength + 1);
    for (let i = 0; i < 50; i++) {
      sampler.read(i, sample);
      sampler.provenance(i);
    }
  } finally {
    Object.assign(fs, { readSync, readFileSync: readWhole });
    syncBuiltinESMExports();
  }
  t.true(lengths.length >= 100);
  t.is(Math.max(...lengths), 2 * (sequenceLength + 1));
});

test('a corpus of more shards than may be open is read all the same', async (t) => {
  const directory = await prepared(t, { shardTokens: 20 });
  const dataset = openDataset(directory);
  const tokens = tokensOf(directory, 'train');
  t.true(dataset.manifest.splits.train.shards.length > 130);
  const sampler = dataset.sampler({ split: 'train', sequenceLength: 8, seed: 1 });
  const sample = new Int32Array(9);
  for (let i = 0; i < sampler.numSequences; i++) {
    sampler.read(i, sample);
    const start = sampler.locate(i).sequence * 8;
    t.deepEqual([...sample], tokens.slice(start, start + 9));
  }
});

test('a split shorter than a sequence is refused', async (t) => {
  const dataset = openDataset(await prepared(t));
  const { tokens } = dataset.manifest.splits.validation;
  const error = t.throws(() => dataset.sampler({ split: 'validation', sequenceLength: tokens, seed: 1 }), {
    instanceOf: SluiceError,
  });
  t.is(error?.code, 'SLUICE_E_DATA_TOO_SMALL');
  t.is(dataset.sampler({ split: 'validation', sequenceLength: tokens - 1, seed: 1 }).numSequences, 1);
});

test('a missing, short or foreign file is noticed when the corpus is opened', async (t) => {
  const code = (directory: string) =>
    t.throws(() => openDataset(directory), { instanceOf: SluiceError })?.code;
  const missing = await prepared(t);
  rmSync(join(missing, 'train-00001.bin'));
  t.is(code(missing), 'SLUICE_E_DATA_DAMAGED');
  const short = await prepared(t);
  truncateSync(join(short, 'train.names'), 10);
  t.is(code(short), 'SLUICE_E_DATA_DAMAGED');
  const foreign = await prepared(t);
  writeFileSync(join(foreign, 'manifest.json'), '{"format":"other"}');
  t.is(code(foreign), 'SLUICE_E_DATA_DAMAGED');
  rmSync(join(foreign, 'manifest.json'));
  t.is(code(foreign), 'SLUICE_E_DATA_NOT_PREPARED');
});

test('a flipped bit is found by verification, and a shard cut while it is read by the read', async (t) => {
  const directory = await prepared(t);
  const dataset = openDataset(directory);
  t.notThrows(() => dataset.verify());
  const path = join(directory, 'train-00002.bin');
  const bytes = readFileSync(path);
  bytes[11]! ^= 4;
  writeFileSync(path, bytes);
  const error = t.throws(() => dataset.verify(), { instanceOf: SluiceError });
  t.is(error?.code, 'SLUICE_E_DATA_DAMAGED');
  t.regex(error!.message, /train-00002\.bin/);
  truncateSync(path, 10);
  const sampler = dataset.sampler({ split: 'train', sequenceLength: 16, seed: 1 });
  const readAll = () => {
    for (let i = 0; i < sampler.numSequences; i++) sampler.read(i, new Int32Array(17));
  };
  t.is(t.throws(readAll, { instanceOf: SluiceError })?.code, 'SLUICE_E_DATA_DAMAGED');
});
