import { readFileSync } from 'node:fs';
import { SluiceError } from '@sluice/core';
import { loadTokenizer, trainTokenizer } from '@sluice/data';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { TestFolder } from './support/folder.ts';
import { TRAINING_WORDS, texts } from './support/texts.ts';

async function trained(t: ExecutionContext, vocabularySize = 300) {
  const json = await trainTokenizer(TRAINING_WORDS, { vocabularySize });
  const path = new TestFolder(t).write('tokenizer.json', JSON.stringify(json));
  return { json, path, tokenizer: loadTokenizer(path) };
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

test('half a character is shown as U+FFFD', async (t) => {
  const { tokenizer } = await trained(t, 257);
  const ids = tokenizer.encode('é');
  t.is(ids.length, 2);
  t.is(tokenizer.decode(ids), 'é');
  t.is(tokenizer.decode(ids.slice(0, 1)), '\ufffd');
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
  const backwards = await trainTokenizer(new Map([...TRAINING_WORDS].reverse()), { vocabularySize: 300 });
  t.is(readFileSync(first.path, 'utf8'), JSON.stringify(backwards));
});
