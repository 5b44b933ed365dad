import { readFileSync } from 'node:fs';
import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers';
import { SluiceError } from '@sluice/core';
import { loadTokenizer, trainTokenizer } from '@sluice/data';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { TestFolder } from './support/folder.ts';

const WORDS = new Map([
  ['The', 9],
  [' heron', 20],
  [' her', 31],
  [' here', 12],
  [' opened', 11],
  [' the', 40],
  [' gate', 17],
  [' gates', 8],
  ['\n\n', 6],
  [' naïve', 4],
  ['日本', 5],
  ['aaaa', 7],
  ['.', 30],
]);

async function trained(t: ExecutionContext, vocabularySize = 300) {
  const json = await trainTokenizer(WORDS, { vocabularySize });
  const path = new TestFolder(t).write('tokenizer.json', JSON.stringify(json));
  return { json, path, tokenizer: loadTokenizer(path) };
}

/** Any text, and text made of pieces that the merges, the patterns and the special tokens care about. */
const texts = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 60 }),
  fc.string({ unit: 'grapheme', maxLength: 40 }),
  fc
    .array(
      fc.constantFrom(
        ...[
          ...WORDS.keys(),
          ' ',
          '  ',
          '\t',
          '\r\n',
          '\n',
          '\u0085',
          '\ufeff',
          '\u3000',
          "'s",
          "'LL",
          "'ſ",
          '12',
          '½',
        ],
        ...['e\u0301', 'हिन्दी', '🙂‍↔️', '<|endoftext|>', '<|endoftext', '|>', '!?', '_x', '\u0000'],
      ),
      { maxLength: 25 },
    )
    .map((pieces) => pieces.join('')),
);

/** JavaScript takes the byte order mark for a space and U+0085 for none: its library then differs from the original. */
function hasOnlySpacesOfJavaScript(text: string): boolean {
  return !/[\u0085\ufeff]/.test(text);
}

test('decoding gives back every text', async (t) => {
  const { tokenizer } = await trained(t);
  fc.assert(
    fc.property(texts, (text) => {
      t.is(tokenizer.decode(tokenizer.encode(text)), text);
      t.is(tokenizer.decode(tokenizer.encodeOrdinary(text)), text);
    }),
    { numRuns: 400 },
  );
});

test('a trained tokenizer gives the same ids in the Hugging Face library', async (t) => {
  const { json, tokenizer } = await trained(t);
  const library = new HuggingFaceTokenizer(json, {});
  fc.assert(
    fc.property(texts, (text) => {
      t.deepEqual(tokenizer.encode(text), library.encode(text, { add_special_tokens: false }).ids);
    }),
    { numRuns: 400 },
  );
});

test('external patterns, normalizers and merge formats give the same ids in the Hugging Face library', async (t) => {
  const { json } = await trained(t);
  const qwen =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: false, use_regex: false };
  const variants = {
    gpt2: { ...json, pre_tokenizer: { ...byteLevel, use_regex: true } },
    qwen: {
      ...json,
      normalizer: { type: 'NFC' },
      pre_tokenizer: {
        type: 'Sequence',
        pretokenizers: [
          { type: 'Split', pattern: { Regex: qwen }, behavior: 'Isolated', invert: false },
          byteLevel,
        ],
      },
    },
    wholeWords: { ...json, model: { ...json.model, ignore_merges: true } },
    mergesAsText: {
      ...json,
      model: { ...json.model, merges: json.model.merges.map((merge) => (merge as string[]).join(' ')) },
    },
  };
  const folder = new TestFolder(t);
  for (const [name, variant] of Object.entries(variants)) {
    const tokenizer = loadTokenizer(folder.write(`${name}.json`, JSON.stringify(variant)));
    const library = new HuggingFaceTokenizer(variant, {});
    fc.assert(
      fc.property(name === 'gpt2' ? texts.filter(hasOnlySpacesOfJavaScript) : texts, (text) => {
        t.deepEqual(tokenizer.encode(text), library.encode(text, { add_special_tokens: false }).ids, name);
      }),
      { numRuns: 150 },
    );
  }
});

test('the GPT-2 pattern takes the spaces of Unicode, as the original library does', async (t) => {
  const { json } = await trained(t);
  const gpt2 = { ...json, pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, use_regex: true } };
  const tokenizer = loadTokenizer(new TestFolder(t).write('gpt2.json', JSON.stringify(gpt2)));
  // From PyPI's `tokenizers` 0.23, reading the same file.
  t.deepEqual(tokenizer.encode('½\n\n\u0085'), [127, 122, 279, 127, 228]);
  t.deepEqual(tokenizer.encode('½\n\n\ufeff'), [127, 122, 199, 199, 172, 120, 124]);
});

test('a tokenizer that is not byte-level BPE is read by the Hugging Face library', (t) => {
  const json = {
    version: '1.0',
    added_tokens: [
      {
        id: 3,
        content: '[EOS]',
        special: true,
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: false,
      },
    ],
    normalizer: { type: 'Lowercase' },
    pre_tokenizer: { type: 'Whitespace' },
    post_processor: null,
    decoder: { type: 'WordPiece', prefix: '##', cleanup: false },
    model: {
      type: 'WordPiece',
      unk_token: '[UNK]',
      continuing_subword_prefix: '##',
      max_input_chars_per_word: 100,
      vocab: { '[UNK]': 0, gate: 1, '##s': 2, '[EOS]': 3 },
    },
  };
  const tokenizer = loadTokenizer(new TestFolder(t).write('tokenizer.json', JSON.stringify(json)));
  t.is(tokenizer.vocabularySize, 4);
  t.is(tokenizer.endOfTextId, 3);
  t.deepEqual(tokenizer.encode('Gates gate'), [1, 2, 1]);
  t.is(tokenizer.decode([1, 2]), 'gates');
  t.deepEqual(tokenizer.encode('gate[EOS]'), [1, 3]);
  t.false(tokenizer.encodeOrdinary('gate[EOS]').includes(3));
});

test('special tokens are recognised in prompts and never in ordinary text', async (t) => {
  const { tokenizer } = await trained(t);
  t.true(tokenizer.encode('a<|endoftext|>b').includes(tokenizer.endOfTextId));
  t.false(tokenizer.encodeOrdinary('a<|endoftext|>b').includes(tokenizer.endOfTextId));
});

test('merges are those of a count by hand: most frequent pair first, smaller ids at equal counts', async (t) => {
  const words = new Map([
    ['abab', 3],
    ['bc', 6],
    ['ab', 1],
  ]);
  const { model } = await trainTokenizer(words, { vocabularySize: 261 });
  // ab: 3·2 + 1 = 7; then bc: 6; then (ab, ab): 3, the last that is seen more than once.
  t.deepEqual(model.merges, [
    ['a', 'b'],
    ['b', 'c'],
    ['ab', 'ab'],
  ]);
  const tie = await trainTokenizer(
    new Map([
      ['xy', 5],
      ['ef', 5],
    ]),
    { vocabularySize: 258 },
  );
  t.deepEqual(tie.model.merges, [['e', 'f']]);
});

test('training matches a slow trainer that counts everything anew for every merge', async (t) => {
  const samples = fc.dictionary(fc.stringMatching(/^[abc]{1,9}$/), fc.integer({ min: 1, max: 9 }), {
    minKeys: 1,
    maxKeys: 12,
  });
  await fc.assert(
    fc.asyncProperty(samples, async (words) => {
      const { model } = await trainTokenizer(new Map(Object.entries(words)), { vocabularySize: 270 });
      t.deepEqual(model.merges, slowMerges(words, 13));
    }),
    { numRuns: 60 },
  );
});

/** Byte pair encoding by its definition. Over the letters a, b, c the ids are in the order of creation. */
function slowMerges(words: Readonly<Record<string, number>>, newTokens: number): [string, string][] {
  const ids = new Map([...'abc'].map((letter, id) => [letter, id]));
  const split = Object.entries(words).map(([word, count]) => ({ symbols: [...word], count }));
  const merges: [string, string][] = [];
  while (ids.size < 3 + newTokens) {
    const counts = new Map<string, number>();
    for (const { symbols, count } of split) {
      for (let i = 1; i < symbols.length; i++) {
        const pair = `${symbols[i - 1]} ${symbols[i]}`;
        counts.set(pair, (counts.get(pair) ?? 0) + count);
      }
    }
    const order = (pair: string) => pair.split(' ').map((symbol) => ids.get(symbol)!) as [number, number];
    const best = [...counts].sort(
      ([a, x], [b, y]) => y - x || order(a)[0] - order(b)[0] || order(a)[1] - order(b)[1],
    )[0];
    if (best === undefined || best[1] < 2) break;
    const [left, right] = best[0].split(' ') as [string, string];
    merges.push([left, right]);
    if (!ids.has(left + right)) ids.set(left + right, ids.size);
    for (const word of split) {
      const merged: string[] = [];
      for (let i = 0; i < word.symbols.length; i++) {
        const together = word.symbols[i] === left && word.symbols[i + 1] === right;
        merged.push(together ? left + right : word.symbols[i]!);
        if (together) i++;
      }
      word.symbols = merged;
    }
  }
  return merges;
}

test('very long words are encoded in little time and given back', async (t) => {
  const { tokenizer } = await trained(t);
  const text = 'a'.repeat(200_000);
  const ids = tokenizer.encode(text);
  t.is(ids.length, 50_000);
  t.is(tokenizer.decode(ids), text);
});

test('bytes come back even where they are no whole characters', async (t) => {
  const { tokenizer } = await trained(t, 257);
  const ids = tokenizer.encode('é');
  t.is(ids.length, 2);
  t.deepEqual([...tokenizer.decodeBytes(ids.slice(0, 1))], [0xc3]);
  t.is(tokenizer.decode(ids.slice(0, 1)), '\ufffd');
  t.throws(() => tokenizer.decode([257]), { message: /no token with id 257/ });
});

test('the end-of-text token is found by name, in tokenizer_config.json, or by a usual name', async (t) => {
  const { json } = await trained(t);
  const folder = new TestFolder(t);
  const added = json.added_tokens[0]!;
  const two = { ...json, added_tokens: [added, { ...added, id: 300, content: '<stop>' }] };
  const path = folder.write('tokenizer.json', JSON.stringify(two));
  t.is(loadTokenizer(path).endOfTextId, 0);
  t.is(loadTokenizer(folder.path, { endOfText: '<stop>' }).endOfTextId, 300);
  t.is(loadTokenizer(path).vocabularySize, 301);
  folder.write('tokenizer_config.json', JSON.stringify({ eos_token: { content: '<stop>' } }));
  t.is(loadTokenizer(path).endOfTextId, 300);
});

test('a missing, unreadable or unusable tokenizer is a coded error', async (t) => {
  const { json } = await trained(t);
  const folder = new TestFolder(t);
  const code = (path: string, endOfText?: string) =>
    t.throws(() => loadTokenizer(path, { endOfText }), { instanceOf: SluiceError })?.code;
  t.is(code(folder.at('none.json')), 'SLUICE_E_FILE_MISSING');
  t.is(code(folder.write('broken.json', '{')), 'SLUICE_E_TOKENIZER_INVALID');
  t.is(code(folder.write('empty.json', '{}')), 'SLUICE_E_TOKENIZER_INVALID');
  t.is(code(folder.write('good.json', JSON.stringify(json)), '<none>'), 'SLUICE_E_TOKENIZER_INVALID');
});

test('training gives the same file again', async (t) => {
  const first = await trained(t);
  const backwards = await trainTokenizer(new Map([...WORDS].reverse()), { vocabularySize: 300 });
  t.is(readFileSync(first.path, 'utf8'), JSON.stringify(backwards));
});
