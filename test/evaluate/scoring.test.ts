import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { trainTokenizer } from '@sluice/data';
import { InferenceModel } from '@sluice/evaluate';
import test from 'ava';
import { textRemainder, textSource } from '../../packages/evaluate/src/scoring.ts';
import { codecOf, promptTokens, type Reading } from '../../packages/evaluate/src/textCodec.ts';
import { tinyDecoder, tinyModel } from '../model/support.ts';
import { failureOf } from '../support/failureOf.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';

const BEGIN = 99;

/** Inputs and targets of all sequences of a text, the rest included. */
function cut(tokens: readonly number[], sequenceLength: number, isBegun: boolean) {
  const text = { tokens, sequenceLength, isBegun };
  const source = textSource(text);
  const sample = new Int32Array(sequenceLength + 1);
  const sequences = Array.from({ length: source.numSequences }, (_, i) => {
    source.read(i, sample);
    return { inputs: [...sample.slice(0, -1)], targets: [...sample.slice(1)] };
  });
  const rest = textRemainder(text);
  return rest ? [...sequences, { inputs: [...rest.inputs], targets: [...rest.targets] }] : sequences;
}

test('each token of a text but the first is predicted once, after the tokens of its sequence', (t) => {
  const tokens = [BEGIN, 1, 2, 3, 4, 5, 6, 7];
  t.deepEqual(cut(tokens, 3, false), [
    { inputs: [BEGIN, 1, 2], targets: [1, 2, 3] },
    { inputs: [3, 4, 5], targets: [4, 5, 6] },
    { inputs: [6], targets: [7] },
  ]);
  t.deepEqual(cut(tokens, 3, true), [
    { inputs: [BEGIN, 1, 2], targets: [1, 2, 3] },
    { inputs: [BEGIN, 4, 5], targets: [4, 5, 6] },
    { inputs: [BEGIN], targets: [7] },
  ]);
});

test('a text begins as those that the model was trained on', async (t) => {
  const folder = temporaryDirectory(t);
  const path = join(folder, 'tokenizer.json');
  const words = new Map([
    ['gate', 9],
    ['gates', 4],
  ]);
  writeFileSync(path, JSON.stringify(await trainTokenizer(words, { vocabularySize: 259 })));
  const located = { folder, path };
  const startOf = async (reading?: Reading) => (await codecOf(located, reading)).start;
  const { tokenizer } = await codecOf(located);
  t.deepEqual(await startOf(), [tokenizer.endOfTextId]);
  t.deepEqual(await startOf({ documents: 'packed' }), [tokenizer.endOfTextId]);
  t.deepEqual(await startOf({ documents: 'separate' }), []);
  const beginning = 'g';
  t.deepEqual(await startOf({ beginning }), tokenizer.encodeOrdinary('g'));
  t.deepEqual(await startOf({ documents: 'separate', beginning }), tokenizer.encodeOrdinary('g'));
  t.is((await failureOf(startOf({ beginning: '<s>' }))).code, 'SLUICE_E_TOKEN_UNKNOWN');
});

test('a text of a Hugging Face model stands among the tokens that its tokenizer.json puts around it', async (t) => {
  const codecWith = (processor: unknown, config: object) => {
    const folder = temporaryDirectory(t);
    const path = join(folder, 'tokenizer.json');
    const model = { type: 'WordLevel', vocab: { a: 0, '</s>': 1, '<s>': 2 }, unk_token: 'a' };
    const pre_tokenizer = { type: 'WhitespaceSplit' };
    writeFileSync(path, JSON.stringify({ version: '1.0', pre_tokenizer, post_processor: processor, model }));
    writeFileSync(join(folder, 'tokenizer_config.json'), JSON.stringify(config));
    return codecOf({ folder, path, tokenKeys: { bos_token_id: 2, eos_token_id: 1 } });
  };
  const processor = { type: 'BertProcessing', cls: ['<s>', 2], sep: ['</s>', 1] };
  const around = await codecWith(processor, {});
  t.deepEqual(promptTokens(around, {}, 'a a'), [2, 0, 0, 1]);
  t.deepEqual(around.notes, []);
  // What transformers passes over is told.
  const plain = await codecWith(null, { add_bos_token: true, add_eos_token: false });
  t.deepEqual(promptTokens(plain, {}, 'a a'), [0, 0]);
  t.deepEqual(plain.notes, [
    'add_bos_token true of tokenizer_config.json is passed over: tokenizer.json puts nothing before a text (post_processor)',
  ]);
  const { notes } = await codecWith(processor, { add_bos_token: true, add_eos_token: false });
  t.regex(notes.join(), /^add_eos_token false of .* puts the ids 1 behind a text/);
});

test('of a prompt, a model of separate documents sees what follows the last end of one', async (t) => {
  const { decoder } = tinyDecoder(tinyModel());
  const continued = async (prompt: readonly number[], documents: 'packed' | 'separate') => {
    const tokenizer = {
      ...{ vocabularySize: 24, endOfTextId: 0, notes: [] },
      encode: () => [...prompt],
      encodeOrdinary: () => [...prompt],
      encodeCorpus: async () => [],
      decode: (ids: ArrayLike<number>) => `${Array.from(ids).join(' ')} `,
    };
    const model = new InferenceModel(decoder, {
      sequenceLength: 32,
      reading: { documents },
      loadCodec: async () => ({
        tokenizer,
        tokenizerPath: '',
        start: [],
        end: [],
        stop: new Set<number>(),
        notes: [],
      }),
      measureUpdate: async () => ({ missing: 'nothing was trained' }),
    });
    return (await model.generate({ prompt: '', maxTokens: 6, temperature: 0, seed: 1 })).text;
  };
  const alone = await continued([7, 3], 'packed');
  t.is(await continued([9, 4, 0, 7, 3], 'separate'), alone);
  t.not(await continued([9, 4, 0, 7, 3], 'packed'), alone);
  t.is(await continued([9, 4, 0], 'separate'), await continued([0], 'packed'));
});
