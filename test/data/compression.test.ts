import { readFileSync } from 'node:fs';
import { Readable } from 'node:stream';
import { gzipSync } from 'node:zlib';
import { SluiceError } from '@sluice/core';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { unpack } from '../../packages/data/src/sources/compression.ts';

/** The texts of `fixtures/make_packed.sh`. */
const TEXTS = {
  empty: '',
  short: 'A sluice is a gate.\n',
  long: (() => {
    let text = '';
    for (let i = 0; text.length < 300_000; i++) text += `${i} gates of the sluice ${i * i} é 🗼\n`;
    return text;
  })(),
};

interface Packed {
  readonly bytes: Buffer;
  readonly text: string;
}

function fixture(name: string): Buffer {
  return readFileSync(new URL(`fixtures/packed/${name}`, import.meta.url));
}

function packedTexts(endings: readonly string[]): Packed[] {
  return Object.entries(TEXTS).flatMap(([name, text]) =>
    endings.map((ending) => ({ bytes: fixture(name + ending), text })),
  );
}

/** What may follow each other in a file of each format. */
const MEMBERS: Readonly<Record<string, readonly Packed[]>> = {
  '.gz': Object.values(TEXTS).flatMap((text) =>
    [1, 9].map((level) => ({ bytes: gzipSync(text, { level }), text })),
  ),
  '.zst': [
    ...packedTexts(['.zst', '-piped.zst']),
    { bytes: fixture('short-skipped.zst'), text: TEXTS.short },
  ],
  '.bz2': packedTexts(['.bz2']),
  '.xz': packedTexts(['.xz', '-blocks.xz']),
};

/** A stream of bytes, cut at the given places. */
function cutAt(bytes: Buffer, places: readonly number[]): AsyncIterable<Uint8Array> {
  const cuts = [0, ...places.map((place) => place % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  return Readable.from(
    cuts.slice(1).flatMap((end, i) => (end > cuts[i]! ? [bytes.subarray(cuts[i], end)] : [])),
  );
}

async function unpacked(name: string, bytes: Buffer, cuts: readonly number[] = []): Promise<string> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of unpack(name, cutAt(bytes, cuts))) chunks.push(chunk);
  return Buffer.concat(chunks).toString('utf8');
}

async function refusal(t: ExecutionContext, name: string, bytes: Buffer): Promise<string> {
  const error = await t.throwsAsync(unpacked(name, bytes), { instanceOf: SluiceError });
  t.is(error?.code, 'SLUICE_E_DATA_COMPRESSION');
  return error?.message ?? '';
}

for (const [ending, members] of Object.entries(MEMBERS)) {
  test(`${ending}: members one after another give their texts, wherever the stream is cut`, async (t) => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.constantFrom(...members), { minLength: 1, maxLength: 3 }),
        fc.array(fc.nat(200_000), { maxLength: 6 }),
        async (chosen, cuts) => {
          const bytes = Buffer.concat(chosen.map((member) => member.bytes));
          const text = await unpacked(`x.jsonl${ending.toUpperCase()}`, bytes, cuts);
          return text === chosen.map((member) => member.text).join('');
        },
      ),
      { seed: 1, numRuns: 20 },
    );
    t.pass();
  });

  test(`${ending}: a stream in single bytes is the same stream`, async (t) => {
    const short = members.filter(({ text }) => text !== TEXTS.long);
    const bytes = Buffer.concat(short.map((member) => member.bytes));
    const cuts = Array.from(bytes, (_, i) => i);
    t.is(await unpacked(`x${ending}`, bytes, cuts), short.map(({ text }) => text).join(''));
  });

  test(`${ending}: what is cut off in a member is an error, wherever it is`, async (t) => {
    const { bytes } = members.find(({ text }) => text === TEXTS.long)!;
    const lengths = [0, 1, 3, 5, 9, 20, 500, bytes.length >> 1, bytes.length - 5, bytes.length - 1];
    for (const length of lengths) await refusal(t, `x${ending}`, bytes.subarray(0, length));
  });

  test(`${ending}: a changed bit and what follows the end are errors`, async (t) => {
    const { bytes } = members.find(({ text }) => text === TEXTS.long)!;
    for (const place of [Math.trunc(bytes.length / 3), Math.trunc(bytes.length / 2)]) {
      const damaged = Buffer.from(bytes);
      damaged[place]! ^= 16;
      t.regex(await refusal(t, `x${ending}`, damaged), /damaged/);
    }
    await refusal(t, `x${ending}`, Buffer.concat([bytes, Buffer.from('and something else')]));
  });
}

test('damage of a bzip2 is told in words that say what it is', async (t) => {
  const bytes = fixture('short.bz2');
  const told = async (damaged: Buffer) => /bzip2 data: (.*)\.$/.exec(await refusal(t, 'x.bz2', damaged))?.[1];
  t.is(await told(bytes.subarray(0, 30)), 'it is cut off');
  t.is(
    await told(Buffer.concat([bytes, Buffer.from('and something else')])),
    'something else follows its end',
  );
  const words = new Set<string | undefined>();
  for (let place = 10; place < 38; place++) {
    const damaged = Buffer.from(bytes);
    damaged[place]! ^= 16;
    words.add(await told(damaged));
  }
  words.delete('it is cut off');
  t.deepEqual([...words], ['a checksum or the data is wrong']);
});

test('a stream that is left early, or refused for what is in it, holds up no other', async (t) => {
  for (const [ending, members] of Object.entries(MEMBERS)) {
    const { bytes, text } = members.find((member) => member.text === TEXTS.long)!;
    for await (const _ of unpack(`x${ending}`, cutAt(bytes, [1000]))) break;
    t.is(await unpacked(`x${ending}`, bytes), text);
  }
  t.regex(await refusal(t, 'x.xz', fixture('twice.xz')), /holds xz data within its xz data/);
  t.is(await unpacked('x.xz', fixture('short.xz')), TEXTS.short);
});

test('zeros after a member of a gzip are padding, wherever the stream is cut', async (t) => {
  const one = gzipSync(TEXTS.short);
  const bytes = Buffer.concat([one, Buffer.alloc(512), gzipSync(TEXTS.long), Buffer.alloc(1000)]);
  const cutPlaces = [
    [],
    [one.length],
    [one.length - 1, one.length + 1],
    [one.length + 512, bytes.length - 500],
  ];
  for (const cuts of cutPlaces) t.is(await unpacked('x.gz', bytes, cuts), TEXTS.short + TEXTS.long);
  const everywhere = Array.from({ length: one.length + 1024 }, (_, i) => i);
  t.is(await unpacked('x.gz', bytes, everywhere), TEXTS.short + TEXTS.long);
});

test('what follows the zeros after a member of a gzip must be another member', async (t) => {
  const begin = [gzipSync(TEXTS.short), Buffer.alloc(512)];
  const garbage = Buffer.concat([...begin, Buffer.from('and something else')]);
  t.regex(await refusal(t, 'x.gz', garbage), /damaged gzip data/);
  const half = gzipSync(TEXTS.long).subarray(0, 5000);
  t.regex(await refusal(t, 'x.gz', Buffer.concat([...begin, half])), /damaged gzip data/);
});

test('an error of the source comes through a gzip as it is', async (t) => {
  async function* failing() {
    yield gzipSync(TEXTS.long).subarray(0, 5000);
    throw new SluiceError('SLUICE_E_FILE_MISSING', 'It is gone.');
  }
  const read = async () => {
    for await (const _ of unpack('x.gz', failing()));
  };
  await t.throwsAsync(read, { message: 'It is gone.' });
});

test('a Zstandard frame that needs more memory than is granted is refused before it is read', async (t) => {
  t.regex(await refusal(t, 'x.zst', fixture('too-wide.zst')), /window of 256 MiB.*zstd --long=27/);
});

test('name and content must agree; the error says which name would be right', async (t) => {
  const text = Buffer.from(TEXTS.short);
  t.regex(await refusal(t, 'a/x.jsonl.gz', text), /named as gzip and does not hold it; name it x\.jsonl if/);
  t.regex(await refusal(t, 'x.jsonl', gzipSync(text)), /holds gzip data.*name it x\.jsonl\.gz/);
  t.regex(
    await refusal(t, 'x.jsonl.gz', fixture('short.zst')),
    /holds Zstandard data.*name it x\.jsonl\.zst/,
  );
  t.regex(await refusal(t, 'x.txt.zst', Buffer.alloc(0)), /empty, and no Zstandard data/);
  t.is(await unpacked('x.txt', text), TEXTS.short);
  t.is(await unpacked('x.txt', Buffer.alloc(0)), '');
});

test('formats that are not read are refused by name, whatever the file is called', async (t) => {
  t.regex(await refusal(t, 'x.txt.lz4', fixture('short.lz4')), /named as LZ4, which Sluice does not read/);
  t.regex(await refusal(t, 'x.txt', fixture('short.lz4')), /holds LZ4 data, which Sluice does not read/);
  t.regex(await refusal(t, 'x.txt', Buffer.from('PK\x03\x04rest')), /holds ZIP data/);
  const archive = Buffer.alloc(1024);
  archive.write('name');
  archive.write('ustar', 257);
  t.regex(await refusal(t, 'x.tar.gz', gzipSync(archive)), /holds tar data within its gzip data/);
  t.regex(await refusal(t, 'x.gz', gzipSync(gzipSync('x'))), /holds gzip data within its gzip data/);
});

test('a pointer of Git LFS is told as such', async (t) => {
  const pointer = Buffer.from('version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n');
  for (const name of ['x.txt', 'x.jsonl.zst']) {
    const error = await t.throwsAsync(unpacked(name, pointer), { instanceOf: SluiceError });
    t.is(error?.code, 'SLUICE_E_DATA_POINTER');
  }
});
