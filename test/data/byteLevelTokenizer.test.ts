import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { loadTokenizer, trainTokenizer } from '@sluice/data';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { Tokenizer as NativeTokenizer } from 'tokenizers';
import { TestFolder } from './support/folder.ts';
import { TRAINING_WORDS, texts } from './support/texts.ts';

/** A tokenizer of every pattern that Sluice cuts by itself, trained on the same few words. */
async function variants(): Promise<Readonly<Record<string, object>>> {
  const own = await trainTokenizer(TRAINING_WORDS, { vocabularySize: 300 });
  const fixtures = ['llama3', 'qwen', 'o200k', 'gpt2'].map((family) => {
    const path = fileURLToPath(new URL(`fixtures/tokenizers/${family}.json`, import.meta.url));
    const { tokenizer } = JSON.parse(readFileSync(path, 'utf8')) as { tokenizer: typeof own };
    return [
      family,
      { ...own, normalizer: tokenizer.normalizer, pre_tokenizer: tokenizer.pre_tokenizer },
    ] as const;
  });
  const merges = own.model.merges.map((merge) => [merge].flat().join(' '));
  const user = { ...own.added_tokens[0]!, id: 300, content: 'é日', special: false };
  return {
    own,
    ...Object.fromEntries(fixtures),
    wholeWords: { ...own, model: { ...own.model, ignore_merges: true } },
    mergesAsText: { ...own, model: { ...own.model, merges } },
    addedTokens: { ...own, added_tokens: [...own.added_tokens, user] },
  };
}

function open(t: ExecutionContext, json: object) {
  const content = JSON.stringify(json);
  const tokenizer = loadTokenizer(new TestFolder(t).write('tokenizer.json', content));
  const native = NativeTokenizer.fromString(content);
  return {
    tokenizer,
    ids: async (text: string) => (await native.encode(text, null, { addSpecialTokens: false })).getIds(),
    decode: (ids: number[]) => native.decode(ids, false),
  };
}

test('ids and decoded texts are those of Hugging Face’s library', async (t) => {
  for (const [name, json] of Object.entries(await variants())) {
    const { tokenizer, ids, decode } = open(t, json);
    t.regex(tokenizer.constructor.name, /^_?ByteLevelTokenizer$/, name);
    await fc.assert(
      fc.asyncProperty(texts, async (text) => {
        const own = tokenizer.encode(text);
        t.deepEqual(own, await ids(text), name);
        t.is(tokenizer.decode(own), await decode(own), name);
        // What is cut anywhere may hold halves of characters.
        const part = own.slice(own.length >> 2, own.length >> 1);
        t.is(tokenizer.decode(part), await decode(part), name);
      }),
      { numRuns: 120 },
    );
  }
});

/** All characters but most ideographs and syllables of Hangul, which are many and alike; and no surrogates. */
function differentCharacters(): string[] {
  const alike = [
    [0x3480, 0x4d00],
    [0x4e80, 0x9f00],
    [0xac80, 0xd700],
    [0xe000, 0xf800],
    [0x17080, 0x18c00],
    [0x20080, 0x2a600],
    [0x2a780, 0x2ea00],
    [0x2ec80, 0x2f700],
    [0x30080, 0x31300],
    [0x31400, 0x32300],
    [0x32500, 0xe0000],
    [0xe0200, 0x110000],
  ];
  return Array.from({ length: 0x110000 }, (_, code) => code)
    .filter((code) => (code < 0xd800 || code > 0xdfff) && !alike.some(([a, b]) => code >= a! && code < b!))
    .map((code) => String.fromCodePoint(code));
}

test('every character is cut from its neighbours as by Hugging Face’s library', async (t) => {
  const characters = differentCharacters();
  const { own, o200k } = await variants();
  for (const [name, json] of Object.entries({ own, o200k })) {
    const { tokenizer, ids } = open(t, json!);
    for (let begin = 0; begin < characters.length; begin += 2048) {
      const some = characters.slice(begin, begin + 2048);
      const text = some.map((character) => `A${character}a 1${character}'${character}`).join('');
      const [mine, theirs] = [tokenizer.encode(text), await ids(text)];
      if (mine.length === theirs.length && mine.every((id, i) => id === theirs[i])) continue;
      t.fail(`${name} differs among the characters from U+${some[0]!.codePointAt(0)!.toString(16)} on`);
    }
  }
  t.pass();
});
