import { execFile, spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import { processSpace, SluiceError } from '@sluice/core';
import { listPrepared, loadRecipe, loadTokenizer, openDataset, prepareData } from '@sluice/data';
import test from 'ava';
import { openSource } from '../../packages/data/src/sources/open.ts';
import { noCounts } from '../../packages/data/src/sources/source.ts';
import { allDocuments, documentsOf } from './support/documents.ts';
import { stories, TestFolder } from './support/folder.ts';

test('every document is in exactly one split, whole and between end-of-text tokens', async (t) => {
  const folder = new TestFolder(t);
  const texts = stories(80);
  const { directory, documents } = await prepareData(folder.jsonlRecipe(texts), folder.options);
  const [train, validation] = [documentsOf(directory, 'train'), documentsOf(directory, 'validation')];
  t.is(documents, 80);
  t.is(train.size + validation.size, 80);
  t.deepEqual([...train.values(), ...validation.values()].sort(), texts.toSorted());
  t.true(validation.size > 8 && validation.size < 35);
});

test('a document keeps its split when others are added, and equal documents share theirs', async (t) => {
  const folder = new TestFolder(t);
  const few = stories(40);
  const first = await prepareData(folder.jsonlRecipe(few), folder.options);
  const before = new Set(documentsOf(first.directory, 'validation').values());
  const second = await prepareData(folder.jsonlRecipe([...stories(60).reverse(), ...few]), folder.options);
  const after = [...documentsOf(second.directory, 'validation').values()];
  for (const text of few) {
    t.is(after.includes(text), before.has(text));
    if (before.has(text)) t.is(after.filter((other) => other === text).length, 2);
  }
});

test('another seed holds out other documents', async (t) => {
  const folder = new TestFolder(t);
  const heldOut = async (seed: number) => {
    const recipe = folder.jsonlRecipe(stories(60), { validation: { fraction: 0.25, seed } });
    return [...documentsOf((await prepareData(recipe, folder.options)).directory, 'validation').values()];
  };
  t.notDeepEqual(await heldOut(0), await heldOut(1));
});

test('the second preparation does nothing; a changed recipe, source or damage is noticed', async (t) => {
  const folder = new TestFolder(t);
  const recipe = folder.jsonlRecipe(stories(40));
  const first = await prepareData(recipe, folder.options);
  const { ino } = statSync(join(first.directory, 'manifest.json'));
  const again = await prepareData(recipe, folder.options);
  t.true(first.fresh);
  t.false(again.fresh);
  t.is(statSync(join(first.directory, 'manifest.json')).ino, ino);
  t.deepEqual({ ...again, fresh: true }, first);

  t.true((await prepareData(folder.jsonlRecipe(stories(41)), folder.options)).fresh);
  t.true((await prepareData(folder.jsonlRecipe(stories(41), { shardTokens: 100 }), folder.options)).fresh);
  writeFileSync(join(first.directory, 'train-00000.bin'), 'short');
  t.true((await prepareData(folder.jsonlRecipe(stories(41), { shardTokens: 100 }), folder.options)).fresh);
  t.true((await prepareData(recipe, { ...folder.options, force: true })).fresh);
});

test('with neither text nor tokens, the error says what is missing and how to make it again', async (t) => {
  const folder = new TestFolder(t);
  const recipe = folder.jsonlRecipe(stories(40));
  const { directory } = await prepareData(recipe, folder.options);
  rmSync(folder.at('docs.jsonl'));
  const message = async () =>
    (await t.throwsAsync(prepareData(recipe, folder.options), { code: 'SLUICE_E_FILE_MISSING' })).message;
  rmSync(join(directory, 'train-00000.bin'));
  t.regex(
    await message(),
    /docs\.jsonl cannot be read \(ENOENT\)\. .*train-00000\.bin is damaged: it is missing/,
  );
  rmSync(directory, { recursive: true });
  const said = await message();
  t.regex(
    said,
    /docs\.jsonl cannot be read \(ENOENT\)\. .* holds no prepared corpus\. Once the source is there/,
  );
  t.true(said.endsWith(`sluice data prepare ${recipe}`), said);
});

test('equal text gives an equal manifest, whenever and wherever it was prepared', async (t) => {
  const folder = new TestFolder(t);
  const recipe = folder.jsonlRecipe(stories(30));
  const first = await prepareData(recipe, folder.options);
  utimesSync(folder.at('docs.jsonl'), 1, 1);
  const second = await prepareData(recipe, { ...folder.options, outputRoot: folder.at('elsewhere') });
  t.true(second.fresh);
  t.is(second.manifestHash, first.manifestHash);
  const other = await prepareData(folder.jsonlRecipe(stories(31)), folder.options);
  t.not(other.manifestHash, first.manifestHash);
});

test('an abort in the middle leaves the corpus before it, and nothing half-written', async (t) => {
  const folder = new TestFolder(t);
  const before = await prepareData(folder.jsonlRecipe(stories(30)), folder.options);
  const recipe = folder.jsonlRecipe(stories(50));
  for (const stage of ['words', 'merges', 'encode'] as const) {
    const controller = new AbortController();
    const stop = new Error('stop');
    const promise = prepareData(recipe, {
      ...folder.options,
      signal: controller.signal,
      onProgress: (progress) => {
        if (progress.stage === stage) controller.abort(stop);
      },
    });
    t.is(await t.throwsAsync(promise), stop);
    t.deepEqual(readdirSync(folder.at('prepared')), ['corpus']);
    t.is(openDataset(before.directory).manifestHash, before.manifestHash);
  }
  t.is((await prepareData(recipe, folder.options)).documents, 50);
});

test('an abort is heard where record after record is passed over', async (t) => {
  const folder = new TestFolder(t);
  folder.write('docs.jsonl', `{"text":"One."}\n${'{"text":null}\n'.repeat(50_000)}`);
  const sources = [{ kind: 'jsonl', path: 'docs.jsonl' }];
  const controller = new AbortController();
  const stop = new Error('stop');
  const loaded = loadRecipe(folder.recipe({ sources }));
  const reader = await openSource(loaded.recipe.sources[0]!, loaded, { downloadRoot: folder.path });
  const counts = noCounts();
  const reading = (async () => {
    for await (const _ of reader.documents(counts, controller.signal)) controller.abort(stop);
  })();
  t.is(await t.throwsAsync(reading), stop);
  t.is(counts.nullRecords, 0);
});

test('no text at all is told with what was passed over', async (t) => {
  const folder = new TestFolder(t);
  folder.write('docs.jsonl', '{"text":null}\n{"txt":"One."}\n{"text":" "}\n');
  const recipe = folder.recipe({ sources: [{ kind: 'jsonl', path: 'docs.jsonl', missing: 'skip' }] });
  const error = await t.throwsAsync(prepareData(recipe, folder.options), { instanceOf: SluiceError });
  t.is(error?.code, 'SLUICE_E_DATA_EMPTY');
  t.regex(error?.message ?? '', /1 records with null, 1 without the field, 1 blank documents/);
});

test('a kill in the middle leaves no corpus, and the next preparation removes the remains', async (t) => {
  const folder = new TestFolder(t);
  const recipe = folder.jsonlRecipe(stories(50));
  const script = `
    const { prepareData } = await import(${JSON.stringify(import.meta.resolve('@sluice/data'))});
    await prepareData(${JSON.stringify(recipe)}, {
      outputRoot: ${JSON.stringify(folder.at('prepared'))},
      onProgress: ({ stage, documents }) => {
        if (stage === 'encode' && documents === 20) process.kill(process.pid, 'SIGKILL');
      },
    });`;
  const child = promisify(execFile)(process.execPath, ['--input-type=module', '-e', script]);
  t.is((await t.throwsAsync<Error & { signal?: string }>(child)).signal, 'SIGKILL');
  t.is(readdirSync(folder.at('prepared')).length, 1);
  t.deepEqual(listPrepared(folder.at('prepared')), []);
  const summary = await prepareData(recipe, folder.options);
  t.is(summary.documents, 50);
  t.deepEqual(readdirSync(folder.at('prepared')), ['corpus']);
});

/** The number of a process that has ended. */
const deadPid = () => spawnSync(process.execPath, ['-e', '']).pid;

test('a corpus that a killed preparation had moved away to replace it has its name again', async (t) => {
  const folder = new TestFolder(t);
  const recipe = folder.jsonlRecipe(stories(40));
  const first = await prepareData(recipe, folder.options);
  renameSync(first.directory, folder.at('prepared', `.corpus.partial-${processSpace()}-${deadPid()}-old`));
  const again = await prepareData(recipe, folder.options);
  t.deepEqual(again, { ...first, fresh: false });
  t.deepEqual(readdirSync(folder.at('prepared')), ['corpus']);
});

test('what a process of another machine is preparing is left alone until nothing was written for a day', async (t) => {
  const folder = new TestFolder(t);
  const recipe = folder.jsonlRecipe(stories(40));
  // A number that no process of this machine has.
  const elsewhere = `.corpus.partial-elsewhere-${deadPid()}`;
  folder.write(`prepared/${elsewhere}/train-00000.bin`, 'x');
  await prepareData(recipe, folder.options);
  t.deepEqual(readdirSync(folder.at('prepared')), [elsewhere, 'corpus']);
  for (const path of [elsewhere, `${elsewhere}/train-00000.bin`])
    utimesSync(folder.at('prepared', path), 1, 1);
  await prepareData(recipe, { ...folder.options, force: true });
  t.deepEqual(readdirSync(folder.at('prepared')), ['corpus']);
});

test('a folder of the corpus’s name that holds something else is not replaced', async (t) => {
  const folder = new TestFolder(t);
  const recipe = folder.jsonlRecipe(stories(40));
  const novel = folder.write('prepared/corpus/novel.txt', 'Years of work.');
  const error = await t.throwsAsync(prepareData(recipe, { ...folder.options, force: true }), {
    instanceOf: SluiceError,
    code: 'SLUICE_E_OUTPUT_EXISTS',
  });
  t.regex(error!.message, /corpus, which is none: it holds novel\.txt/);
  t.is(readFileSync(novel, 'utf8'), 'Years of work.');
});

test('the unigram loss is the cross-entropy of smoothed training frequencies on the validation split', async (t) => {
  const folder = new TestFolder(t);
  const { directory, unigramLoss, bytesPerToken, vocabularySize } = await prepareData(
    folder.jsonlRecipe(stories(60)),
    folder.options,
  );
  const tokens = (split: 'train' | 'validation'): number[] => {
    const dataset = openDataset(directory);
    const count = dataset.manifest.splits[split].tokens;
    const target = new Int32Array(count);
    dataset.sampler({ split, sequenceLength: count - 1, seed: 0 }).read(0, target);
    return [...target];
  };
  const [train, validation] = [tokens('train'), tokens('validation')];
  const probability = (id: number) =>
    (train.filter((other) => other === id).length + 1) / (train.length + vocabularySize);
  const expected = -validation.reduce((sum, id) => sum + Math.log(probability(id)), 0) / validation.length;
  t.true(Math.abs(unigramLoss! - expected) < 1e-9);
  const bytes = stories(60).reduce((sum, text) => sum + Buffer.byteLength(text), 0);
  t.true(Math.abs(bytesPerToken - bytes / (train.length + validation.length)) < 1e-12);
});

test('the tokenizer learns from the training split alone', async (t) => {
  const folder = new TestFolder(t);
  const texts = stories(60);
  const { directory } = await prepareData(folder.jsonlRecipe(texts), folder.options);
  const held = new Set(documentsOf(directory, 'validation').values());
  const changed = texts.filter((text) => !held.has(text));
  t.true(held.size > 0);
  const without = await prepareData(
    folder.jsonlRecipe(changed, { name: 'without', validation: { fraction: 0 } }),
    folder.options,
  );
  t.is(
    readFileSync(join(directory, 'tokenizer.json'), 'utf8'),
    readFileSync(join(without.directory, 'tokenizer.json'), 'utf8'),
  );
});

test('an existing tokenizer is taken as it is, and large vocabularies get wide tokens', async (t) => {
  const folder = new TestFolder(t);
  const first = await prepareData(folder.jsonlRecipe(stories(40)), folder.options);
  const json = JSON.parse(readFileSync(join(first.directory, 'tokenizer.json'), 'utf8'));
  json.added_tokens.push({ ...json.added_tokens[0], id: 70_000, content: '<stop>' });
  mkdirSync(folder.at('given'));
  writeFileSync(folder.at('given/tokenizer.json'), JSON.stringify(json));
  const recipe = folder.jsonlRecipe(stories(40), {
    tokenizer: { kind: 'file', path: 'given', endOfText: '<stop>' },
  });
  const { directory, vocabularySize, notes } = await prepareData(recipe, folder.options);
  const { manifest, tokenizerPath } = openDataset(directory);
  t.is(vocabularySize, 70_001);
  t.regex(notes.join(), /"<stop>" the id 70000.* will take 300\./);
  t.is(manifest.tokenType, 'uint32');
  t.is(manifest.tokenizer.endOfTextId, 70_000);
  t.is(loadTokenizer(tokenizerPath).vocabularySize, 70_001);
  t.is(loadTokenizer(tokenizerPath).endOfTextId, 70_000);
  t.deepEqual([...allDocuments(directory).values()].sort(), stories(40).sort());
  const sample = new Int32Array(manifest.splits.train.tokens);
  openDataset(directory)
    .sampler({ split: 'train', sequenceLength: sample.length - 1, seed: 0 })
    .read(0, sample);
  t.is(sample.at(-1), 70_000);
});

test('a tokenizer of another family is applied to every document, in many batches', async (t) => {
  const folder = new TestFolder(t);
  const fixture = fileURLToPath(new URL('fixtures/tokenizers/word_class.json', import.meta.url));
  const { tokenizer: json } = JSON.parse(readFileSync(fixture, 'utf8')) as { tokenizer: object };
  mkdirSync(folder.at('given'));
  writeFileSync(folder.at('given/tokenizer.json'), JSON.stringify(json));
  const documents = stories(25).map((story, i) => story.repeat(1 + 300 * (i % 5)));
  const recipe = folder.jsonlRecipe(documents, { tokenizer: { kind: 'file', path: 'given' } });
  const { directory, trainTokens, validationTokens } = await prepareData(recipe, folder.options);
  const tokenizer = loadTokenizer(folder.at('given'));
  const tokens = documents.map((text) => tokenizer.encodeOrdinary(text).length + 1);
  t.true(documents.join('').length > 2 ** 20);
  t.is(
    trainTokens + validationTokens,
    tokens.reduce((sum, length) => sum + length),
  );
  t.deepEqual([...allDocuments(directory).values()].sort(), documents.sort());
});

test('two preparations of one recipe at the same time both end with the whole corpus', async (t) => {
  const folder = new TestFolder(t);
  const recipe = folder.jsonlRecipe(stories(40));
  const script = `
    const { prepareData } = await import(${JSON.stringify(import.meta.resolve('@sluice/data'))});
    const { manifestHash } = await prepareData(${JSON.stringify(recipe)}, { outputRoot: ${JSON.stringify(folder.at('prepared'))} });
    console.log(manifestHash);`;
  const run = () => promisify(execFile)(process.execPath, ['--input-type=module', '-e', script]);
  const hashes = (await Promise.all([run(), run(), run()])).map(({ stdout }) => stdout);
  t.is(new Set(hashes).size, 1);
  t.deepEqual(readdirSync(folder.at('prepared')), ['corpus']);
  t.notThrows(() => openDataset(folder.at('prepared', 'corpus')).verify());
});

test('text that spells a special token stays text', async (t) => {
  const folder = new TestFolder(t);
  const text = 'The name of the token is <|endoftext|>, in angle brackets.';
  const recipe = folder.jsonlRecipe([text, ...stories(5)], { validation: { fraction: 0 } });
  const { directory } = await prepareData(recipe, folder.options);
  t.true([...allDocuments(directory).values()].includes(text));
});

test('a small sample trains the tokenizer on some of the documents only', async (t) => {
  const folder = new TestFolder(t);
  const tokenizer = (sampleBytes: number) => ({ kind: 'train', vocabularySize: 400, sampleBytes });
  const merges = async (sampleBytes: number): Promise<number> => {
    const recipe = folder.jsonlRecipe(stories(80), { tokenizer: tokenizer(sampleBytes) });
    return (await prepareData(recipe, folder.options)).vocabularySize;
  };
  t.true((await merges(800)) < (await merges(1_000_000)));
});

test('no text, no documents in a split, and an unwritable folder are coded errors', async (t) => {
  const folder = new TestFolder(t);
  const code = async (recipe: string, options = folder.options) =>
    (await t.throwsAsync(prepareData(recipe, options), { instanceOf: SluiceError }))?.code;
  t.is(await code(folder.jsonlRecipe(['', '  '])), 'SLUICE_E_DATA_EMPTY');
  t.is(await code(folder.jsonlRecipe(['Only one.'])), 'SLUICE_E_DATA_SPLIT_EMPTY');
  folder.write('file', '');
  t.is(
    await code(folder.jsonlRecipe(stories(9)), { outputRoot: folder.at('file', 'x') }),
    'SLUICE_E_FILE_UNWRITABLE',
  );
  t.is(await code(folder.at('no-recipe.yaml')), 'SLUICE_E_FILE_MISSING');
});

test('progress counts documents, bytes and tokens up to what the summary tells', async (t) => {
  const folder = new TestFolder(t);
  const texts = stories(30);
  const stages = new Map<string, { documents: number; bytes: number; tokens: number; totalBytes: number }>();
  const summary = await prepareData(folder.jsonlRecipe(texts), {
    ...folder.options,
    onProgress: ({ stage, ...counts }) => stages.set(stage, counts),
  });
  const bytes = texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0);
  t.deepEqual([...stages.keys()], ['sources', 'words', 'merges', 'encode']);
  t.deepEqual(stages.get('encode'), {
    documents: 30,
    bytes,
    tokens: summary.trainTokens + summary.validationTokens,
    totalBytes: bytes,
  });
});

test('progress tells no total where it was guessed far too small', async (t) => {
  const folder = new TestFolder(t);
  const texts = Array.from({ length: 200 }, (_, i) => `Day ${i}: ${'water '.repeat(300)}`);
  folder.write('docs.jsonl.gz', gzipSync(texts.map((text) => `${JSON.stringify({ text })}\n`).join('')));
  const totals = new Map<string, number>();
  const recipe = folder.recipe({
    sources: [{ kind: 'jsonl', path: 'docs.jsonl.gz' }],
    tokenizer: { kind: 'train', vocabularySize: 300, sampleBytes: 5000 },
  });
  await prepareData(recipe, {
    ...folder.options,
    onProgress: ({ stage, totalBytes }) => totals.set(stage, totalBytes),
  });
  t.true(totals.get('words')! > 0);
  t.is(totals.get('encode'), 0);
});

test('the list tells prepared corpora, and damaged ones with their problem', async (t) => {
  const folder = new TestFolder(t);
  t.deepEqual(listPrepared(folder.at('prepared')), []);
  const {
    fresh,
    text,
    notes,
    sources: _,
    ...corpus
  } = await prepareData(folder.jsonlRecipe(stories(30)), folder.options);
  t.true(fresh);
  t.is(text, 'same');
  t.deepEqual(notes, []);
  cpSync(corpus.directory, folder.at('prepared/damaged'), { recursive: true });
  rmSync(folder.at('prepared/damaged/train.index'));
  mkdirSync(folder.at('prepared/unfinished'));
  const [whole, damaged, unfinished] = listPrepared(folder.at('prepared'));
  t.deepEqual(whole, corpus);
  t.is(damaged && 'problem' in damaged ? damaged.problem.code : undefined, 'SLUICE_E_DATA_DAMAGED');
  t.is(
    unfinished && 'problem' in unfinished ? unfinished.problem.code : undefined,
    'SLUICE_E_DATA_NOT_PREPARED',
  );
  t.true(existsSync(corpus.directory));
});
