import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { SluiceError } from '@sluice/core';
import { decodeContinuation, loadTokenizer, prepareData } from '@sluice/data';
import test, { type ExecutionContext } from 'ava';
import { TestFolder } from './support/folder.ts';

interface Fixture {
  readonly tokenizer: TokenizerJson;
  readonly cases: readonly {
    readonly text: string;
    readonly ids: number[];
    /** Where it differs from `ids`. */
    readonly ordinary?: number[];
    readonly decoded: string;
  }[];
}

interface TokenizerJson {
  readonly added_tokens: readonly object[];
  readonly model: { readonly vocab: Readonly<Record<string, number>> };
}

const FIXTURES = fileURLToPath(new URL('fixtures/tokenizers/', import.meta.url));

function fixture(name: string): Fixture {
  return JSON.parse(readFileSync(join(FIXTURES, `${name}.json`), 'utf8')) as Fixture;
}

/** A WordLevel tokenizer of a few words. */
const wordLevel = (vocab: Readonly<Record<string, number>>, changes: object = {}) => ({
  version: '1.0',
  truncation: null,
  padding: null,
  added_tokens: [],
  normalizer: null,
  pre_tokenizer: { type: 'WhitespaceSplit' },
  post_processor: null,
  decoder: null,
  model: { type: 'WordLevel', vocab, unk_token: '[UNK]' },
  ...changes,
});

const added = (id: number, content: string, special = true) => ({
  id,
  content,
  special,
  single_word: false,
  lstrip: false,
  rstrip: false,
  normalized: false,
});

function load(t: ExecutionContext, json: object, endOfText?: string) {
  return loadTokenizer(new TestFolder(t).write('tokenizer.json', JSON.stringify(json)), { endOfText });
}

function refusal(t: ExecutionContext, action: () => unknown): SluiceError {
  return t.throws(action, { instanceOf: SluiceError })!;
}

for (const file of readdirSync(FIXTURES).filter((name) => name.endsWith('.json'))) {
  const family = file.replace('.json', '');
  test(`${family}: ids and texts are those of PyPI’s tokenizers`, async (t) => {
    const { tokenizer: json, cases } = fixture(family);
    const { content } = json.added_tokens.at(family === 'added_tokens' ? 0 : -1) as { content: string };
    const tokenizer = load(t, json, content);
    for (const { text, ids, ordinary = ids, decoded } of cases) {
      t.deepEqual(tokenizer.encode(text), ids, text);
      t.deepEqual(tokenizer.encodeOrdinary(text), ordinary, text);
      t.is(tokenizer.decode(ids), decoded, text);
    }
    if (family === 'no_unknown') return;
    const corpus = cases.map(({ text }) => ({ name: '', text }));
    t.deepEqual(
      await tokenizer.encodeCorpus(corpus),
      cases.map(({ ids, ordinary = ids }) => ordinary),
    );
  });
}

test('a text that a model without an unknown token would lose a part of is no corpus', async (t) => {
  const tokenizer = load(t, fixture('no_unknown').tokenizer, '</s>');
  const good = { name: 'a.txt', text: 'the gate' };
  t.deepEqual(await tokenizer.encodeCorpus([good]), [tokenizer.encodeOrdinary(good.text)]);
  const error = await t.throwsAsync(
    tokenizer.encodeCorpus([good, { name: 'b.txt', text: 'the 😀 gate' }, good]),
    { instanceOf: SluiceError, code: 'SLUICE_E_TOKENIZER_TEXT' },
  );
  t.regex(error!.message, /"😀" in b\.txt/);
});

test('a word that is unknown to a model without an unknown token is refused, never dropped', async (t) => {
  const json = wordLevel({ the: 0, gate: 1, '</s>': 2 });
  const tokenizer = load(t, json, '</s>');
  t.deepEqual(tokenizer.encode('the gate'), [0, 1]);
  t.is(refusal(t, () => tokenizer.encode('the weir')).code, 'SLUICE_E_TOKENIZER_TEXT');
  const error = await t.throwsAsync(tokenizer.encodeCorpus([{ name: 'a.txt', text: 'the weir' }]));
  t.regex(error!.message, /a\.txt.*\[UNK\]/);
});

test('a corpus with such a word is not prepared', async (t) => {
  const folder = new TestFolder(t);
  folder.write('tokenizer.json', JSON.stringify(fixture('no_unknown').tokenizer));
  folder.write('text/a.txt', 'the gate 😀');
  const recipe = folder.write(
    'recipe.yaml',
    'name: lost\nsources: [{ kind: text, path: text }]\ntokenizer: { kind: file, path: tokenizer.json }\nvalidation: { fraction: 0 }\n',
  );
  await t.throwsAsync(prepareData(recipe, { outputRoot: folder.at('out') }), {
    instanceOf: SluiceError,
    code: 'SLUICE_E_TOKENIZER_TEXT',
    message: /"😀" in a\.txt/,
  });
});

test('words that are names of JavaScript’s own are words', (t) => {
  const json = wordLevel({ '[UNK]': 0, constructor: 1, '</s>': 2 });
  const text = JSON.stringify(json).replace('"constructor":1', '"constructor":1,"__proto__":3,"toString":4');
  const tokenizer = loadTokenizer(new TestFolder(t).write('tokenizer.json', text));
  t.deepEqual(tokenizer.encode('constructor __proto__ toString valueOf'), [1, 3, 4, 0]);
  t.is(tokenizer.decode([1, 3, 4]), 'constructor __proto__ toString');
  t.is(tokenizer.vocabularySize, 5);
});

test('a special token that the model could find by itself is plain text in a corpus', (t) => {
  const json = wordLevel(
    { '[UNK]': 0, a: 1, '</s>': 2, b: 3 },
    { added_tokens: [added(0, '[UNK]'), added(2, '</s>'), added(4, '<user>', false)] },
  );
  const tokenizer = load(t, json);
  t.deepEqual(tokenizer.encode('a </s> b <user>'), [1, 2, 3, 4]);
  t.deepEqual(tokenizer.encodeOrdinary('a </s> b <user>'), [1, 0, 3, 4]);
});

test('texts are neither cut off nor filled up', async (t) => {
  const json = wordLevel(
    { '[UNK]': 0, a: 1, '</s>': 2 },
    {
      truncation: { direction: 'Right', max_length: 2, strategy: 'LongestFirst', stride: 0 },
      padding: {
        strategy: { Fixed: 8 },
        direction: 'Right',
        pad_to_multiple_of: null,
        pad_id: 0,
        pad_type_id: 0,
        pad_token: '[UNK]',
      },
    },
  );
  const tokenizer = load(t, json);
  t.deepEqual(tokenizer.encode('a a a a'), [1, 1, 1, 1]);
  const corpus = ['a', 'a a a'].map((text) => ({ name: '', text }));
  t.deepEqual(await tokenizer.encodeCorpus(corpus), [[1], [1, 1, 1]]);
});

test('ids with gaps between them are those of the file; an id without a token is shown as such', async (t) => {
  const json = wordLevel(
    { '[UNK]': 0, a: 5, b: 2, c: 9 },
    { added_tokens: [added(3, '<x>', false), added(20, '</s>'), added(11, '<y>', false)] },
  );
  const tokenizer = load(t, json);
  t.is(tokenizer.vocabularySize, 21);
  t.is(tokenizer.endOfTextId, 20);
  t.deepEqual(tokenizer.encode('a <x> b <y> c </s> d'), [5, 3, 2, 11, 9, 20, 0]);
  t.deepEqual(tokenizer.encodeOrdinary('a <x> b <y> c </s> d'), [5, 3, 2, 11, 9, 0, 0]);
  t.deepEqual(await tokenizer.encodeCorpus([{ name: '', text: '<y> c' }]), [[11, 9]]);
  t.is(tokenizer.decode([5, 2, 7, 9, 99]), 'a b<|unused 7|>c<|unused 99|>');
  t.is(tokenizer.notes.length, 3);
  t.regex(tokenizer.notes[1]!, /"<\/s>" the id 20.* will take 5\./);
});

test('the notes on numbering hold of the library', async (t) => {
  const { Tokenizer } = await import('tokenizers');
  const vocabularies = [
    { '[UNK]': 0, a: 1 },
    { '[UNK]': 0, a: 7 },
    { '[UNK]': 0, a: 1, '</s>': 9 },
  ];
  for (const vocab of vocabularies) {
    const json = wordLevel(vocab, { added_tokens: [added(9, '</s>'), added(12, '<x>'), added(13, '<y>')] });
    const native = Tokenizer.fromString(JSON.stringify(json));
    const told = load(t, json).notes.map((note) =>
      /gives "(.*)" the id.* will take (\d+)/.exec(note)!.slice(1),
    );
    const differing = json.added_tokens as { content: string; id: number }[];
    t.deepEqual(
      told,
      differing
        .map(({ content, id }) => ({ content, id, libraryId: native.tokenToId(content)! }))
        .filter(({ id, libraryId }) => id !== libraryId)
        .map(({ content, libraryId }) => [content, String(libraryId)]),
    );
  }
});

test('a byte-level tokenizer with gaps shows ids without a token too', (t) => {
  const { tokenizer: json } = fixture('llama3');
  const size = Object.keys(json.model.vocab).length;
  const tokenizer = load(t, { ...json, added_tokens: [added(size + 100, '<eos>')] }, '<eos>');
  t.is(tokenizer.endOfTextId, size + 100);
  t.is(
    tokenizer.decode([...tokenizer.encode('The'), size, 10 ** 6]),
    `The<|unused ${size}|><|unused 1000000|>`,
  );
});

test('what a file says twice, or leaves to chance, is refused', (t) => {
  const words = { '[UNK]': 0, a: 1, '</s>': 2 };
  const refusals: [object, RegExp][] = [
    [wordLevel({ ...words, b: 1 }), /the id 1 means both "a" and "b"/],
    [wordLevel(words, { added_tokens: [added(1, '<x>')] }), /the id 1 means both "a" and "<x>"/],
    [wordLevel(words, { added_tokens: [added(7, 'a')] }), /the token "a" has the ids 1 and 7/],
    [wordLevel({ ...words, b: 2 ** 31 }), /not a table from tokens to ids below 16777216/],
    [wordLevel(words, { pre_tokenizer: { type: 'Unheard' } }), /pre_tokenizer|PreTokenizer|variant/],
    [
      { ...fixture('llama3').tokenizer, model: { ...fixture('llama3').tokenizer.model, dropout: 0.1 } },
      /dropout is 0\.1/,
    ],
  ];
  for (const [json, message] of refusals) {
    const error = refusal(t, () => load(t, json));
    t.is(error.code, 'SLUICE_E_TOKENIZER_INVALID');
    t.regex(error.message, message);
  }
});

test('a model that the library refuses is told at the first text', async (t) => {
  const { tokenizer: json } = fixture('word_class');
  const tokenizer = load(t, { ...json, model: { ...json.model, merges: [['no', 'token']] } });
  const code = 'SLUICE_E_TOKENIZER_INVALID';
  t.is(refusal(t, () => tokenizer.encode('a')).code, code);
  await t.throwsAsync(tokenizer.encodeCorpus([{ name: '', text: 'a' }]), { instanceOf: SluiceError, code });
});

test('lone surrogates are U+FFFD', async (t) => {
  for (const family of ['llama3', 'word_class', 'llama2']) {
    const tokenizer = load(t, fixture(family).tokenizer, family === 'llama2' ? '</s>' : '<|endoftext|>');
    const replaced = tokenizer.encode('a\ufffdb\ufffd');
    t.deepEqual(tokenizer.encode('a\ud800b\udc00'), replaced);
    t.deepEqual(await tokenizer.encodeCorpus([{ name: '', text: 'a\ud800b\udc00' }]), [replaced]);
  }
});

test('a continuation keeps the space that the tokenizer writes before words', (t) => {
  const tokenizer = load(t, fixture('llama2').tokenizer, '</s>');
  const ids = tokenizer.encode('The gate');
  const prompt = tokenizer.encode('The');
  t.deepEqual(ids.slice(0, prompt.length), prompt);
  t.is(decodeContinuation(tokenizer, prompt, ids.slice(prompt.length)), ' gate');
  t.is(tokenizer.decode(ids.slice(prompt.length)), 'gate');
});

/** Loads a tokenizer in a process where the library does not load, and encodes a text. */
function withoutLibrary(file: string): string {
  const script = `
    const { loadTokenizer } = await import('@sluice/data');
    try {
      process.stdout.write(JSON.stringify(loadTokenizer(process.argv[1]).encode('The gate')));
    } catch (error) {
      process.stdout.write(error.code + ' ' + error.message);
    }`;
  const env = { ...process.env, NAPI_RS_NATIVE_LIBRARY_PATH: join(FIXTURES, 'none.node') };
  return execFileSync(process.execPath, ['--input-type=module', '-e', script, file], {
    env,
    encoding: 'utf8',
  });
}

test('where the library does not load, byte-level tokenizers work and others say why not', (t) => {
  const folder = new TestFolder(t);
  const { tokenizer: llama3 } = fixture('llama3');
  const own = folder.write('llama3.json', JSON.stringify(llama3));
  t.is(withoutLibrary(own), JSON.stringify(loadTokenizer(own).encode('The gate')));
  for (const family of ['qwen', 'word_class']) {
    const other = folder.write(`${family}.json`, JSON.stringify(fixture(family).tokenizer));
    t.regex(withoutLibrary(other), /^SLUICE_E_TOKENIZER_LIBRARY .*does not load/);
  }
});
