import { chmodSync, copyFileSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { SluiceError } from '@sluice/core';
import { loadTokenizer, openDataset, prepareData } from '@sluice/data';
import test, { type ExecutionContext } from 'ava';
import type { TextOptions } from '../../packages/data/src/recipe.ts';
import { noCounts } from '../../packages/data/src/sources/source.ts';
import { textSource } from '../../packages/data/src/sources/text.ts';
import { brsFile } from './support/brs.ts';
import { allDocuments } from './support/documents.ts';
import { stories, TestFolder } from './support/folder.ts';

/** Prepares the sources and gives all documents back, by name. */
async function documents(
  folder: TestFolder,
  ...sources: Record<string, unknown>[]
): Promise<Map<string, string>> {
  const recipe = folder.recipe({
    sources,
    tokenizer: { kind: 'train', vocabularySize: 257 },
    validation: { fraction: 0 },
  });
  const { directory } = await prepareData(recipe, folder.options);
  return new Map([...allDocuments(directory)].sort(([a], [b]) => (a < b ? -1 : 1)));
}

async function codeOf(t: ExecutionContext, promise: Promise<unknown>): Promise<string | undefined> {
  return (await t.throwsAsync(promise, { instanceOf: SluiceError }))?.code;
}

test('a folder of text gives a document a file, by its patterns, unpacked where it is compressed', async (t) => {
  const folder = new TestFolder(t);
  folder.write('texts/b.txt', 'Second.\n');
  folder.write('texts/a/deep.md', 'First, ü.\n');
  folder.write('texts/c.txt.gz', gzipSync('Third.\n'));
  folder.write('texts/skipped.html', '<p>');
  folder.write('texts/blank.txt', ' \n ');
  const found = await documents(folder, { kind: 'text', path: 'texts', include: ['**/*.{txt,md}', '*.gz'] });
  t.deepEqual(
    [...found],
    [
      ['a/deep.md', 'First, ü.\n'],
      ['b.txt', 'Second.\n'],
      ['c.txt.gz', 'Third.\n'],
    ],
  );
});

test('a separator cuts a file into documents, wherever the file is cut while it is read', async (t) => {
  const folder = new TestFolder(t);
  const texts = Array.from(
    { length: 40 },
    (_, i) => `Entry ${i}\n\n   indented ${'x'.repeat((i * 977) % 30_000)}`,
  );
  folder.write('all.txt', texts.join('\n\n'));
  const source = { kind: 'text', path: 'all.txt', documentSeparator: '\\n\\n(?=\\S)' };
  const found = await documents(folder, source);
  t.deepEqual([...found.values()].sort(), texts.toSorted());
  t.is(found.get('all.txt#3'), texts[2]);
});

/** The documents of one text file, read in chunks of 256 KiB, each whole. */
async function cutInto(
  folder: TestFolder,
  text: string,
  { documentSeparator, remove = [] }: Partial<TextOptions>,
): Promise<string[]> {
  const path = folder.write('all.txt', text);
  const files = [{ path, name: path, size: 0, modified: 0 }];
  const options = { encoding: 'utf-8', invalidBytes: 'error', remove, documentSeparator } as const;
  const documents = [''];
  for await (const part of textSource('all', { files, passedOver: [] }, options).documents(noCounts())) {
    documents[documents.length - 1] += part.text;
    if (part.last) documents.push('');
  }
  return documents.slice(0, -1);
}

test('a separator sees what stands before it, though the stream is cut there', async (t) => {
  const folder = new TestFolder(t);
  // Separators that follow each other, where the first chunk has no more text after them than one may need.
  const text = `${'x'.repeat(2 ** 18 - 1010)}${'\n'.repeat(20)}${'y'.repeat(3000)}`;
  t.deepEqual(await cutInto(folder, text, { documentSeparator: '(?<=\\n)\\n' }), text.split(/(?<=\n)\n/u));
});

test('a separator that matches nothing cuts there, once, also before a character of two code units', async (t) => {
  const folder = new TestFolder(t);
  t.deepEqual(await cutInto(folder, 'a😀b😀c', { documentSeparator: '(?=😀)' }), ['a', '😀b', '😀c']);
  t.deepEqual(await cutInto(folder, '#a\n\n#b', { documentSeparator: '\\n*(?=#)' }), ['#a', '#b']);
});

test('matches of `remove` are found in the whole of a document that is handed on in parts', async (t) => {
  const folder = new TestFolder(t);
  const gates = 'gate '.repeat(2 ** 20 / 5 - 2);
  const note = `[${'a note '.repeat(9)}]`;
  const found = await cutInto(folder, `${gates}${note}${gates}`, {
    remove: ['\\[[^\\]]*\\]', '^gate|gate $'],
  });
  t.true(found.length === 1 && found[0] === `${gates}${gates}`.slice('gate'.length, -'gate '.length));
});

test('a document in parts has the tokens that it has as a whole', async (t) => {
  const folder = new TestFolder(t);
  const { tokenizer: llama } = JSON.parse(
    readFileSync(new URL('fixtures/tokenizers/llama2.json', import.meta.url), 'utf8'),
  ) as { tokenizer: object };
  folder.write('llama/tokenizer.json', JSON.stringify(llama));
  const cases = {
    // Line breaks belong to the punctuation before them.
    'A gate;\n': { kind: 'train', vocabularySize: 280 },
    // Puts a space before a text.
    'the gate ': { kind: 'file', path: 'llama', endOfText: '</s>' },
  };
  for (const [sentence, tokenizer] of Object.entries(cases)) {
    const text = sentence.repeat(150_000);
    folder.write('long.txt', text);
    const sources = [{ kind: 'text', path: 'long.txt' }];
    const recipe = folder.recipe({ sources, tokenizer, validation: { fraction: 0 } });
    const { directory, trainTokens } = await prepareData(recipe, folder.options);
    const whole = loadTokenizer(openDataset(directory).tokenizerPath);
    t.is(trainTokens, whole.encodeOrdinary(text).length + 1, sentence);
  }
});

test('a document longer than a part stays one document', async (t) => {
  const folder = new TestFolder(t);
  const text = 'A sluice is a gate. '.repeat(120_000);
  folder.write('long.txt', text);
  const found = await documents(folder, { kind: 'text', path: 'long.txt' });
  t.is(found.size, 1);
  t.true(found.get('long.txt') === text);
});

test('long documents are cut at the same places, packed or not', async (t) => {
  const folder = new TestFolder(t);
  const mebi = 2 ** 20;
  // Lengths around that of a part, and of one and what a separator may need.
  const texts = [mebi - 5, mebi + 5, mebi + 990, mebi + 1010, 3 * mebi].map((length, i) =>
    `${i} gate `.repeat(length / 7),
  );
  const all = texts.join('\n\n');
  const options: TextOptions = {
    encoding: 'utf-8',
    invalidBytes: 'error',
    remove: [],
    documentSeparator: '\\n\\n',
  };
  const lengthsOfParts = async (path: string) => {
    const lengths: number[] = [];
    const files = [{ path, name: path, size: 0, modified: 0 }];
    const source = textSource('all', { files, passedOver: [] }, options);
    for await (const { text } of source.documents(noCounts())) lengths.push(text.length);
    return lengths;
  };
  const plain = await lengthsOfParts(folder.write('all.txt', all));
  t.deepEqual(await lengthsOfParts(folder.write('all.txt.gz', gzipSync(all))), plain);
  t.is(
    plain.reduce((sum, length) => sum + length, 0),
    all.length - 2 * (texts.length - 1),
  );
  t.true(plain.length > texts.length && plain.every((length) => length <= mebi));
});

test('matches of `remove` are deleted from the text', async (t) => {
  const folder = new TestFolder(t);
  folder.write('a.txt', 'Gate [1913 Webster] of a sluice. [PJC]');
  const found = await documents(folder, { kind: 'text', path: 'a.txt', remove: [' \\[[^\\]]*\\]'] });
  t.is(found.get('a.txt'), 'Gate of a sluice.');
});

test('bytes that are no text stop the preparation, or are replaced, dropped, or decoded as told', async (t) => {
  const folder = new TestFolder(t);
  folder.write('a.txt', Buffer.from('caf\xe9 au lait', 'latin1'));
  const source = { kind: 'text', path: 'a.txt' };
  const error = await t.throwsAsync(documents(folder, source), { instanceOf: SluiceError });
  t.is(error?.code, 'SLUICE_E_DATA_ENCODING');
  t.regex(error!.message, /a\.txt is not utf-8/);
  t.is((await documents(folder, { ...source, invalidBytes: 'replace' })).get('a.txt'), 'caf\ufffd au lait');
  t.is((await documents(folder, { ...source, invalidBytes: 'drop' })).get('a.txt'), 'caf au lait');
  t.is((await documents(folder, { ...source, encoding: 'windows-1252' })).get('a.txt'), 'café au lait');
  folder.write('damaged.txt.gz', gzipSync('x'.repeat(1000)).subarray(0, 20));
  t.is(
    await codeOf(t, documents(folder, { kind: 'text', path: 'damaged.txt.gz' })),
    'SLUICE_E_DATA_COMPRESSION',
  );
});

test('JSONL gives a document a line, from a field or a field in a field', async (t) => {
  const folder = new TestFolder(t);
  const lines = [
    { text: 'One.', meta: { note: 'a' } },
    { text: 'Two.\nLines.', meta: { note: 'b' } },
  ];
  folder.write('d/x.jsonl', `${JSON.stringify(lines[0])}\n\n${JSON.stringify(lines[1])}`);
  const source = { kind: 'jsonl', path: 'd' };
  t.deepEqual(
    [...(await documents(folder, source))],
    [
      ['x.jsonl:1', 'One.'],
      ['x.jsonl:3', 'Two.\nLines.'],
    ],
  );
  t.deepEqual([...(await documents(folder, { ...source, field: 'meta.note' })).values()], ['a', 'b']);
});

test('a JSONL line without the field, or that is no JSON, is named by file and line', async (t) => {
  const folder = new TestFolder(t);
  folder.write('x.jsonl', '{"text": "a"}\n{"body": "b"}\n');
  const source = { kind: 'jsonl', path: 'x.jsonl' };
  const missing = await t.throwsAsync(documents(folder, source), { instanceOf: SluiceError });
  t.is(missing?.code, 'SLUICE_E_DATA_RECORD');
  t.regex(missing!.message, /x\.jsonl:2: field "text" is missing; the record has body/);
  folder.write('x.jsonl', '{"text": "a"}\n{"text": ');
  const broken = await t.throwsAsync(documents(folder, source), { instanceOf: SluiceError });
  t.regex(broken!.message, /x\.jsonl:2: /);
});

test('Parquet gives a document a row of every row group, and passes over nulls', async (t) => {
  const folder = new TestFolder(t);
  copyFileSync(new URL('fixtures/stories.parquet', import.meta.url), folder.at('stories.parquet'));
  const found = await documents(folder, { kind: 'parquet', path: 'stories.parquet', column: 'story' });
  t.is(found.size, 12);
  t.is(found.get('stories.parquet:0'), 'Story 0 of the lighthouse keeper, who counted 0 ships before dawn.');
  t.is(found.get('stories.parquet:8'), 'Story 7 of the lighthouse keeper, who counted 49 ships before dawn.');
  t.is(found.get('stories.parquet:12'), 'Ein später Gruß aus Köln – 東京 🗼.');
  t.false(found.has('stories.parquet:4'));
});

test('a packed page of nulls alone is read', async (t) => {
  const folder = new TestFolder(t);
  copyFileSync(new URL('fixtures/nulls.parquet', import.meta.url), folder.at('nulls.parquet'));
  const found = await documents(folder, { kind: 'parquet', path: 'nulls.parquet' });
  t.deepEqual([...found], [['nulls.parquet:1', 'two']]);
});

test('a Parquet file without the column, or that is none, is a coded error', async (t) => {
  const folder = new TestFolder(t);
  copyFileSync(new URL('fixtures/stories.parquet', import.meta.url), folder.at('stories.parquet'));
  const error = await t.throwsAsync(documents(folder, { kind: 'parquet', path: 'stories.parquet' }), {
    instanceOf: SluiceError,
  });
  t.is(error?.code, 'SLUICE_E_DATA_RECORD');
  t.regex(error!.message, /field "text" is missing; the file has id, story/);
  writeFileSync(folder.at('bad.parquet'), '');
  const empty = await t.throwsAsync(documents(folder, { kind: 'parquet', path: 'bad.parquet' }));
  t.regex(empty!.message, /bad\.parquet: 0 bytes are no Parquet file/);
  writeFileSync(folder.at('bad.parquet'), 'PAR1 not really');
  t.is(await codeOf(t, documents(folder, { kind: 'parquet', path: 'bad.parquet' })), 'SLUICE_E_DATA_RECORD');
});

test('a missing path and a folder without matching files are coded errors', async (t) => {
  const folder = new TestFolder(t);
  folder.write('texts/a.pdf', 'x');
  t.is(await codeOf(t, documents(folder, { kind: 'text', path: 'nowhere' })), 'SLUICE_E_FILE_MISSING');
  t.is(await codeOf(t, documents(folder, { kind: 'text', path: 'texts' })), 'SLUICE_E_DATA_EMPTY');
});

test('an unpacked Debian package is read without apt; the Bible Retrieval System gives a document a chapter', async (t) => {
  const folder = new TestFolder(t);
  const verses = Array.from({ length: 900 }, (_, i) => i);
  const lines = verses.map(
    (i) =>
      `${i < 450 ? 'Ge' : '1Sa'}${Math.floor(i / 90) + 1}:${(i % 90) + 1} And verse ${i} said, ${'let it be so, '.repeat(i % 9)}amen.`,
  );
  const text = `Holy Bible, Authorized (King James) Version.\n${lines.join('\n')}\n`;
  folder.write('downloads/debian/some-bible/usr/lib/bible.data', brsFile(text, 16_384));
  const found = await documents(folder, {
    kind: 'debian',
    package: 'some-bible',
    include: ['usr/lib/bible.data'],
    format: 'brs',
  });
  t.is(found.size, 10);
  const chapter = lines.filter((line) => line.startsWith('1Sa7:')).map((line) => line.replace('1Sa7:', ''));
  t.is(found.get('usr/lib/bible.data:1Sa7'), chapter.join('\n'));
});

test('a damaged Bible Retrieval System file is a coded error', async (t) => {
  const folder = new TestFolder(t);
  const source = { kind: 'debian', package: 'some-bible', include: ['**/*.data'], format: 'brs' };
  const whole = brsFile('Ge1:1 In the beginning.\n'.repeat(900), 4096);
  const path = 'downloads/debian/some-bible/bible.data';
  for (const damaged of [whole.subarray(0, whole.length - 9), whole.subarray(8), Buffer.alloc(40)]) {
    folder.write(path, damaged);
    t.is(await codeOf(t, documents(folder, source)), 'SLUICE_E_DATA_RECORD');
  }
});

/** Sets the path on which programs are looked for. */
function searchIn(t: ExecutionContext, path: string): void {
  const before = process.env.PATH;
  process.env.PATH = path;
  t.teardown(() => {
    process.env.PATH = before;
  });
}

/** Puts shell scripts in the place of programs. */
function writePrograms(t: ExecutionContext, folder: TestFolder, scripts: Record<string, string>): void {
  for (const [name, script] of Object.entries(scripts))
    chmodSync(folder.write(`bin/${name}`, `#!/bin/sh\n${script}\n`), 0o755);
  searchIn(t, `${folder.at('bin')}:${process.env.PATH}`);
}

test.serial('a package that another process unpacks at the same time is there once', async (t) => {
  const folder = new TestFolder(t);
  writePrograms(t, folder, {
    'apt-get': 'touch tale.deb',
    // The other process is done just before this one.
    dpkg: 'echo "The end." > files/tale.txt; cp -r files ../tale',
  });
  const found = await documents(folder, { kind: 'debian', package: 'tale', include: ['*.txt'] });
  t.deepEqual([...found.values()], ['The end.\n']);
  t.deepEqual(readdirSync(folder.at('downloads/debian')), ['tale']);
});

test.serial('where there is no apt-get, a Debian source says so', async (t) => {
  const folder = new TestFolder(t);
  searchIn(t, folder.at('empty'));
  const error = await t.throwsAsync(documents(folder, { kind: 'debian', package: 'dict-gcide' }), {
    instanceOf: SluiceError,
  });
  t.is(error?.code, 'SLUICE_E_DEBIAN_TOOLS_MISSING');
  t.regex(error!.message, /apt-get.*dict-gcide/);
});

test.serial(
  'a package that apt-get cannot download is a coded error and leaves nothing behind',
  async (t) => {
    const folder = new TestFolder(t);
    writePrograms(t, folder, { 'apt-get': 'echo "E: Unable to locate package $2" >&2; exit 100' });
    const error = await t.throwsAsync(documents(folder, { kind: 'debian', package: 'no-such' }), {
      instanceOf: SluiceError,
    });
    t.is(error?.code, 'SLUICE_E_DEBIAN_DOWNLOAD');
    t.regex(error!.message, /Unable to locate package no-such/);
    t.deepEqual(readdirSync(folder.at('downloads/debian')), []);
  },
);

test('sources are read in the order of the recipe, each with its label', async (t) => {
  const folder = new TestFolder(t);
  folder.write(
    'a.jsonl',
    stories(3)
      .map((text) => JSON.stringify({ text }))
      .join('\n'),
  );
  folder.write('b.txt', 'The end.');
  const found = await documents(folder, { kind: 'jsonl', path: 'a.jsonl' }, { kind: 'text', path: 'b.txt' });
  t.deepEqual([...found.values()], [...stories(3), 'The end.']);
});
