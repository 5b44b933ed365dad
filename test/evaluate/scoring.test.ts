import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { trainTokenizer } from '@sluice/data';
import { InferenceModel } from '@sluice/evaluate';
import test from 'ava';
import { textRemainder, textSource } from '../../packages/evaluate/src/scoring.ts';
import { codecOf, type Reading } from '../../packages/evaluate/src/textCodec.ts';
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
      loadCodec: async () => ({ tokenizer, tokenizerPath: '', start: [], stop: new Set<number>() }),
      measureUpdate: async () => ({ missing: 'nothing was trained' }),
    });
    return (await model.generate({ prompt: '', maxTokens: 6, temperature: 0, seed: 1 })).text;
  };
  const alone = await continued([7, 3], 'packed');
  t.is(await continued([9, 4, 0, 7, 3], 'separate'), alone);
  t.not(await continued([9, 4, 0, 7, 3], 'packed'), alone);
  t.is(await continued([9, 4, 0], 'separate'), await continued([0], 'packed'));
});
