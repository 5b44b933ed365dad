import { copyFileSync, writeFileSync } from 'node:fs';
import { type ErrorCode, SluiceError } from '@sluice/core';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { parquetWriteBuffer } from 'hyparquet-writer';
import type { RecordOptions } from '../../packages/data/src/recipe.ts';
import { listFiles } from '../../packages/data/src/sources/files.ts';
import { documentsInLines, jsonlSource } from '../../packages/data/src/sources/jsonl.ts';
import { linesOf } from '../../packages/data/src/sources/lines.ts';
import { parquetSource } from '../../packages/data/src/sources/parquet.ts';
import { noCounts, type TextSourceReader } from '../../packages/data/src/sources/source.ts';
import { textSource } from '../../packages/data/src/sources/text.ts';
import { TestFolder } from './support/folder.ts';

const DEFAULTS: RecordOptions = { nulls: 'skip', missing: 'error', invalidBytes: 'error' };
const PARQUET = new URL('fixtures/records.parquet', import.meta.url).pathname;

/** All texts of a source, and what was left out. */
async function readAll(source: TextSourceReader) {
  const counts = noCounts();
  const texts: string[] = [];
  for await (const { text } of source.documents(counts)) texts.push(text);
  return { texts, counts };
}

function listing(path: string) {
  return listFiles(path, { include: ['**'], exclude: [] });
}

function readJsonl(path: string, field = 'text', options: Partial<RecordOptions> = {}) {
  return readAll(jsonlSource('x', listing(path), field, { ...DEFAULTS, ...options }));
}

function readParquet(path: string, column: string, options: Partial<RecordOptions> = {}) {
  return readAll(parquetSource('x', listing(path), column, { ...DEFAULTS, ...options }));
}

async function problem(
  t: ExecutionContext,
  reading: Promise<unknown>,
  code: ErrorCode = 'SLUICE_E_DATA_RECORD',
) {
  const error = await t.throwsAsync(reading, { instanceOf: SluiceError });
  t.is(error?.code, code);
  return error?.message ?? '';
}

/** A way to read the records of the Parquet file of the tests, as Parquet or as the same in JSON lines. */
type Read = (field: string, options?: Partial<RecordOptions>) => ReturnType<typeof readJsonl>;

const BOTH: Readonly<Record<string, (folder: TestFolder) => Read>> = {
  Parquet: () => (field, options) => readParquet(PARQUET, field, options),
  'JSON lines': (folder) => {
    const metas = [{ text: 'one', n: 1 }, null, { text: null, n: 3 }, { text: 'four', n: 4 }];
    const tags = [['x', 'y'], [], null, ['z']];
    const records = metas.map((meta, i) => ({
      meta,
      'a.b': `dotted ${i + 1}`,
      n: i + 1,
      tags: tags[i],
      messages: [{ role: 'user', content: 'hi' }],
    }));
    const path = folder.write('r.jsonl', records.map((record) => `${JSON.stringify(record)}\n`).join(''));
    return (field, options) => readJsonl(path, field, options);
  },
};

for (const [format, reader] of Object.entries(BOTH)) {
  test(`${format}: a path leads into fields; null at any of them is passed over and counted, or an error`, async (t) => {
    const read = reader(new TestFolder(t));
    const { texts, counts } = await read('meta.text');
    t.deepEqual(texts, ['one', 'four']);
    t.deepEqual(counts, { ...noCounts(), nullRecords: 2 });
    t.regex(await problem(t, read('meta.text', { nulls: 'error' })), /field "meta\.text" is null/);
  });

  test(`${format}: a name that holds a dot is taken before a path`, async (t) => {
    const { texts } = await reader(new TestFolder(t))('a.b');
    t.deepEqual(texts, ['dotted 1', 'dotted 2', 'dotted 3', 'dotted 4']);
  });

  test(`${format}: a missing field is an error, or its records are passed over and counted`, async (t) => {
    const read = reader(new TestFolder(t));
    t.regex(
      await problem(t, read('body')),
      /field "body" is missing; the (record|file) has meta.*, a\.b, n, /,
    );
    t.deepEqual(await read('body', { missing: 'skip' }), {
      texts: [],
      counts: { ...noCounts(), missingRecords: 4 },
    });
    t.regex(await problem(t, read('messages.content')), /field "messages\.content" is missing/);
  });

  test(`${format}: what is no text is told by its kind`, async (t) => {
    const read = reader(new TestFolder(t));
    t.regex(await problem(t, read('n')), /field "n" is the number 1, and not text/);
    t.regex(await problem(t, read('tags')), /field "tags" is a list \(its first item is text\)/);
    t.regex(await problem(t, read('messages')), /field "messages" is a list of chat messages/);
    t.regex(await problem(t, read('meta')), /field "meta" is an object with the fields text, n/);
  });
}

test('bytes of Parquet that are no UTF-8 stop, are replaced or dropped, and a written U+FFFD stays', async (t) => {
  t.regex(
    await problem(t, readParquet(PARQUET, 'raw'), 'SLUICE_E_DATA_ENCODING'),
    /row 1 holds bytes in "raw" that are not utf-8/,
  );
  const counts = { ...noCounts(), nullRecords: 1, invalidSequences: 2 };
  t.deepEqual(await readParquet(PARQUET, 'raw', { invalidBytes: 'drop' }), {
    texts: ['good', 'caf au lait', 'kept \ufffd, dropped'],
    counts,
  });
  t.deepEqual(await readParquet(PARQUET, 'raw', { invalidBytes: 'replace' }), {
    texts: ['good', 'caf\ufffd au lait', 'kept \ufffd, \ufffddropped'],
    counts,
  });
});

test('bytes of JSON lines that are no UTF-8 are told by their line, or replaced or dropped', async (t) => {
  const folder = new TestFolder(t);
  const lines = [Buffer.from('{"text":"a \ufffd"}\n'), Buffer.from('{"text":"caf\xe9"}\n', 'latin1')];
  const path = folder.write('x.jsonl', Buffer.concat(lines));
  t.regex(await problem(t, readJsonl(path), 'SLUICE_E_DATA_ENCODING'), /x\.jsonl:2 is not utf-8/);
  const { texts, counts } = await readJsonl(path, 'text', { invalidBytes: 'drop' });
  t.deepEqual(texts, ['a \ufffd', 'caf']);
  t.is(counts.invalidSequences, 1);
});

test('a byte order mark, CRLF and blank lines are no part of JSON lines; U+FEFF and U+0085 in a text are', async (t) => {
  const folder = new TestFolder(t);
  const path = folder.write(
    'x.jsonl',
    '\ufeff{"text":"\ufeffa\u0085b\u2028"}\r\n\r\n  \r\n{"text":"c\\r\\n"}\r\n',
  );
  t.deepEqual((await readJsonl(path)).texts, ['\ufeffa\u0085b\u2028', 'c\r\n']);
});

test('UTF-16 is told as such', async (t) => {
  const folder = new TestFolder(t);
  const path = folder.write('x.jsonl', Buffer.from('\ufeff{"text":"a"}\n', 'utf16le'));
  t.regex(await problem(t, readJsonl(path), 'SLUICE_E_DATA_ENCODING'), /byte order mark of utf-16le/);
});

test('halves of surrogate pairs become U+FFFD and are counted; whole pairs and escaped NULs stay', async (t) => {
  const folder = new TestFolder(t);
  const path = folder.write('x.jsonl', '{"text":"a\\ud800b\\ude00 \\ud83d\\ude00 \\u0000"}\n');
  const { texts, counts } = await readJsonl(path);
  t.deepEqual(texts, ['a\ufffdb\ufffd 😀 \0']);
  t.is(counts.invalidSequences, 2);
});

test('JSON that is not a line an object is refused with what it is', async (t) => {
  const folder = new TestFolder(t);
  const cases: [string, RegExp][] = [
    ['[{"text":"a"},\n{"text":"b"}]\n', /x\.jsonl:1: this is a JSON array/],
    ['[{"text":"a"}]', /x\.jsonl:1: this is a JSON array/],
    ['{\n  "text": "a"\n}\n', /x\.jsonl:1: the JSON object goes on over the end of the line/],
    ['{"text":"a"}{"text":"b"}\n', /x\.jsonl:1: after the first JSON value, .* follows on the same line/],
    ['{"text":"a"}\n{"text":"b', /x\.jsonl:2: the last line is cut off/],
    ['{"text":"a"}\n"b"\n', /x\.jsonl:2: the record is text, and no object/],
    ['{"text":"a"}\nnull\n', /x\.jsonl:2: the record is null, and no object/],
    ['{"text":"a"}\n\0\0\0\0', /x\.jsonl:2: the line holds NUL bytes/],
    ['{"text":"a","n":NaN}\n', /x\.jsonl:1: .*NaN/],
    ["{'text':'a'}\n", /x\.jsonl:1: .*JSON/],
  ];
  for (const [content, message] of cases) {
    t.regex(await problem(t, readJsonl(folder.write('x.jsonl', content))), message);
  }
});

test('a line that is too long is told by its number', async (t) => {
  async function* chunks() {
    yield Buffer.from('short\n');
    for (let i = 0; i < 4; i++) yield Buffer.alloc(300, 'x');
  }
  const reading = (async () => {
    for await (const _ of linesOf('x.jsonl', chunks(), 1000));
  })();
  t.regex(await problem(t, reading), /x\.jsonl:2: the line is longer than 1000 bytes/);
});

test('JSON lines give the same documents wherever the stream is cut', async (t) => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.string({ unit: 'binary' }), { maxLength: 8 }),
      fc.array(fc.nat(400), { maxLength: 12 }),
      fc.constantFrom('\n', '\r\n'),
      async (texts, places, newline) => {
        const bytes = Buffer.from(texts.map((text) => JSON.stringify({ text }) + newline).join(''));
        const cuts = [
          0,
          ...places.map((place) => place % (bytes.length + 1)).sort((a, b) => a - b),
          bytes.length,
        ];
        async function* chunks() {
          for (const [i, end] of cuts.slice(1).entries()) yield bytes.subarray(cuts[i], end);
        }
        const found: string[] = [];
        const file = { path: 'x.jsonl', name: 'x.jsonl' };
        for await (const { text } of documentsInLines(file, chunks(), 'text', DEFAULTS, noCounts()))
          found.push(text);
        return JSON.stringify(found) === JSON.stringify(texts);
      },
    ),
    { seed: 1, numRuns: 200 },
  );
  t.pass();
});

test('text, JSON lines and Parquet give the same documents', async (t) => {
  const folder = new TestFolder(t);
  const separator = '\n-----\n';
  const text = fc
    .string({ unit: 'binary' })
    .filter((value) => !value.includes('\0') && !value.startsWith('\ufeff'));
  await fc.assert(
    fc.asyncProperty(fc.array(text, { minLength: 1, maxLength: 8 }), async (texts) => {
      const plain = folder.write('x.txt', texts.join(separator));
      const lines = folder.write(
        'x.jsonl',
        texts.map((value) => `${JSON.stringify({ text: value })}\n`).join(''),
      );
      const parquet = folder.at('x.parquet');
      const columnData = [{ name: 'text', data: texts, type: 'STRING' as const }];
      writeFileSync(parquet, new Uint8Array(parquetWriteBuffer({ columnData })));
      const options = {
        encoding: 'utf-8',
        invalidBytes: 'error' as const,
        remove: [],
        documentSeparator: separator,
      };
      const found = [
        await readAll(textSource('x', listing(plain), options)),
        await readJsonl(lines),
        await readParquet(parquet, 'text'),
      ];
      return found.every((each) => JSON.stringify(each.texts) === JSON.stringify(texts));
    }),
    { seed: 1, numRuns: 60 },
  );
  t.pass();
});

test('a Parquet file that is packed as a whole is refused', async (t) => {
  const folder = new TestFolder(t);
  copyFileSync(PARQUET, folder.at('x.parquet.gz'));
  const message = await problem(
    t,
    readParquet(folder.at('x.parquet.gz'), 'a.b'),
    'SLUICE_E_DATA_COMPRESSION',
  );
  t.regex(message, /packed as a whole/);
});
