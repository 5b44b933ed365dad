import { readFileSync } from 'node:fs';
import { SluiceError } from '@sluice/core';
import { tokenizerBeginningWith, tokensAround } from '@sluice/data';
import test from 'ava';
import { Tokenizer as NativeTokenizer } from 'tokenizers';
import { isSameTokenizer } from '../../packages/data/src/tokenizer/load.ts';
import { TestFolder } from './support/folder.ts';

const IDS = { '<s>': 0, '</s>': 1, '<unk>': 2, a: 3, b: 4 };

const tokenizer = (processor: unknown) => ({
  version: '1.0',
  ...{ truncation: null, padding: null, added_tokens: [], normalizer: null, decoder: null },
  pre_tokenizer: { type: 'WhitespaceSplit' },
  post_processor: processor,
  model: { type: 'WordLevel', vocab: IDS, unk_token: '<unk>' },
});

const template = (before: readonly (keyof typeof IDS)[], after: readonly (keyof typeof IDS)[]) => {
  const special = (id: string) => ({ SpecialToken: { id, type_id: 0 } });
  const known = [...before, ...after].map((id) => [id, { id, ids: [IDS[id]], tokens: [id] }]);
  const text = { Sequence: { id: 'A', type_id: 0 } };
  return {
    type: 'TemplateProcessing',
    single: [...before.map(special), text, ...after.map(special)],
    pair: [text, { Sequence: { id: 'B', type_id: 1 } }],
    special_tokens: Object.fromEntries(known),
  };
};

const BYTES = { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true };
const PAIR = { cls: ['<s>', 0], sep: ['</s>', 1] };

const PROCESSORS = {
  none: null,
  bytes: BYTES,
  'a beginning': template(['<s>'], []),
  'two beginnings and an end': template(['<unk>', '<s>'], ['</s>']),
  BERT: { type: 'BertProcessing', ...PAIR },
  RoBERTa: { type: 'RobertaProcessing', ...PAIR, trim_offsets: true, add_prefix_space: true },
  sequence: { type: 'Sequence', processors: [BYTES, template(['<s>'], ['</s>'])] },
};

for (const [name, processor] of Object.entries(PROCESSORS)) {
  test(`what stands around a text by the post-processor ${name} is what Hugging Face’s library puts there`, async (t) => {
    const content = JSON.stringify(tokenizer(processor));
    const path = new TestFolder(t).write('tokenizer.json', content);
    const { before, after } = tokensAround(path);
    const encoding = await NativeTokenizer.fromString(content).encode('a b', null, {
      addSpecialTokens: true,
    });
    t.deepEqual([...before, 3, 4, ...after], encoding.getIds());
  });
}

test('a tokenizer is made to begin texts with a token, or with none, and is otherwise the same', async (t) => {
  const folder = new TestFolder(t);
  for (const processor of Object.values(PROCESSORS)) {
    for (const beginning of [undefined, { token: 'b', id: 4 }]) {
      const path = folder.write('tokenizer.json', JSON.stringify(tokenizer(processor)));
      const content = tokenizerBeginningWith(path, beginning) ?? readFileSync(path, 'utf8');
      const made = folder.write('made.json', content);
      t.deepEqual(tokensAround(made), { before: beginning ? [4] : [], after: [] });
      const encoding = await NativeTokenizer.fromString(content).encode('a', null, {
        addSpecialTokens: true,
      });
      t.deepEqual(encoding.getIds(), beginning ? [4, 3] : [3]);
      t.true(isSameTokenizer(path, made));
      t.is(tokenizerBeginningWith(made, beginning), undefined, 'it does so already');
    }
  }
  const other = {
    ...tokenizer(null),
    model: { type: 'WordLevel', vocab: { ...IDS, b: 3, a: 4 }, unk_token: '<unk>' },
  };
  t.false(
    isSameTokenizer(
      folder.write('a.json', JSON.stringify(other)),
      folder.write('b.json', JSON.stringify(tokenizer(null))),
    ),
  );
});

test('a post-processor that adds what is no token, or that nobody knows, is refused', (t) => {
  const folder = new TestFolder(t);
  const refusal = (processor: unknown) =>
    t.throws(() => tokensAround(folder.write('tokenizer.json', JSON.stringify(tokenizer(processor)))), {
      instanceOf: SluiceError,
      code: 'SLUICE_E_TOKENIZER_INVALID',
    })!.message;
  t.regex(
    refusal({ type: 'BertProcessing', cls: ['<s>', 0], sep: ['x', 5] }),
    /adds the id 5, and it has 5 tokens/,
  );
  t.regex(
    refusal({ ...template(['<s>'], []), special_tokens: {} }),
    /names a token that special_tokens lacks/,
  );
  t.regex(refusal({ type: 'Llama' }), /post_processor/);
  const twice = [template(['<s>'], []), template([], ['</s>'])];
  t.regex(refusal({ type: 'Sequence', processors: twice }), /adds tokens in two ways/);
});
