import { SluiceError } from '@sluice/core';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { type InvalidBytes, textChunks } from '../../packages/data/src/sources/decode.ts';
import { noCounts } from '../../packages/data/src/sources/source.ts';

/** The text of bytes that come cut at the given places, and how much of them was no text. */
async function decoded(
  bytes: Buffer,
  invalidBytes: InvalidBytes,
  { encoding = 'utf-8', places = [] as readonly number[] } = {},
) {
  const cuts = [0, ...places.map((place) => place % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  async function* chunks() {
    for (const [i, end] of cuts.slice(1).entries()) yield bytes.subarray(cuts[i], end);
  }
  const counts = noCounts();
  let text = '';
  for await (const part of textChunks('x.txt', chunks(), { encoding, invalidBytes }, counts)) text += part;
  return { text, invalid: counts.invalidSequences };
}

async function problem(t: ExecutionContext, bytes: Buffer, encoding = 'utf-8'): Promise<string> {
  const error = await t.throwsAsync(decoded(bytes, 'error', { encoding }), { instanceOf: SluiceError });
  t.is(error?.code, 'SLUICE_E_DATA_ENCODING');
  return error?.message ?? '';
}

/** Pieces of UTF-8: written characters, U+FFFD among them, and bytes that are none. */
const PIECES: readonly { bytes: Buffer; written: boolean }[] = [
  ...['a', '\n', 'é', '\ufffd', '\ufeff', '漢', '🗼', 'zz'].map((text) => ({
    bytes: Buffer.from(text),
    written: true,
  })),
  ...['ff', 'c0', 'f8', '00'].map((hex) => ({ bytes: Buffer.from(hex, 'hex'), written: false })),
];
const pieces = fc.array(fc.constantFrom(...PIECES), { maxLength: 30 });
const places = fc.array(fc.nat(100), { maxLength: 10 });

test('bytes that are no text are replaced or dropped and counted, whatever is written stays, wherever the stream is cut', async (t) => {
  await fc.assert(
    fc.asyncProperty(
      pieces,
      places,
      fc.constantFrom('replace', 'drop'),
      async (chosen, cuts, invalidBytes) => {
        const put = invalidBytes === 'replace' ? '\ufffd' : '';
        let expected = chosen.map(({ bytes, written }) => (written ? bytes.toString() : put)).join('');
        if (chosen[0]?.bytes.toString() === '\ufeff') expected = expected.slice(1);
        // A byte order mark comes first; what was dropped before a U+FEFF leaves it in the middle.
        else if (expected.startsWith('\ufeff')) return true;
        const bytes = Buffer.concat(chosen.map((piece) => piece.bytes));
        const { text, invalid } = await decoded(bytes, invalidBytes, { places: cuts });
        return text === expected && invalid === chosen.filter(({ written }) => !written).length;
      },
    ),
    { seed: 1, numRuns: 1000 },
  );
  t.pass();
});

test('UTF-16 keeps a written U+FFFD where half a character is dropped, wherever the stream is cut', async (t) => {
  const units = fc.array(fc.constantFrom('a', 'é', '\ufffd', '🗼', '\ud800', '\ufdff'), { maxLength: 20 });
  await fc.assert(
    fc.asyncProperty(units, places, async (chosen, cuts) => {
      const bytes = Buffer.from(`${chosen.join('')}z`, 'utf16le');
      const { text } = await decoded(bytes, 'drop', { encoding: 'utf-16le', places: cuts });
      return text === `${chosen.join('').replace(/\p{Surrogate}/gu, '')}z`;
    }),
    { seed: 1, numRuns: 500 },
  );
  t.pass();
});

test('the error names the line and the place of the first bytes that are no text', async (t) => {
  t.regex(
    await problem(t, Buffer.from('one\ntwo\ncaf\xe9 x\n', 'latin1')),
    /is not utf-8, line 3, near byte 8/,
  );
  t.regex(await problem(t, Buffer.from('cut \xe2\x82', 'latin1')), /ends in the middle of a character/);
  t.regex(await problem(t, Buffer.from('a\nb\0c')), /NUL bytes \(line 2, near byte 3\), so it is no text/);
});

test('UTF-16 and UTF-32 that are read as something else are told as such', async (t) => {
  t.regex(
    await problem(t, Buffer.from('\ufeffab', 'utf16le')),
    /byte order mark of utf-16le, and is read as utf-8/,
  );
  t.regex(
    await problem(t, Buffer.from('\ufeffab', 'utf16le'), 'utf-16be'),
    /utf-16le, and is read as utf-16be/,
  );
  t.regex(await problem(t, Buffer.from('fffe000061000000', 'hex')), /byte order mark of utf-32le/);
  t.regex(await problem(t, Buffer.from('no mark', 'utf16le')), /NUL bytes .*looks like utf-16/);
});

test('a byte order mark is no part of the text, and a U+FEFF later on is', async (t) => {
  t.is(
    (await decoded(Buffer.from('\ufeffa\ufeff\u0085'), 'error', { places: [1, 2] })).text,
    'a\ufeff\u0085',
  );
  const utf16 = await decoded(Buffer.from('\ufeffa', 'utf16le'), 'error', { encoding: 'utf-16le' });
  t.is(utf16.text, 'a');
});
