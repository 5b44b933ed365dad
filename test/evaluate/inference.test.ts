import { cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { importHuggingFace } from '@sluice/checkpoint/huggingface';
import { InferenceModel, loadForInference, refuseTooLarge } from '@sluice/evaluate';
import { KeyValueCache, modelParameters } from '@sluice/model';
import * as tf from '@tensorflow/tfjs';
import test from 'ava';
import fc from 'fast-check';
import { CASES, fixture } from '../fixtures/huggingface/fixtures.ts';
import { failureOf } from '../support/failureOf.ts';
import { relativeError } from '../support/relativeError.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';

const load = (path: string, backend = 'native', set?: string[]) =>
  loadForInference(path, { backend, threads: 1, set });

for (const name of CASES) {
  test.serial(
    `${name}: logits with cached keys and values are those of the whole sequence, however it is cut`,
    async (t) => {
      for (const backend of ['native', 'cpu']) {
        const { decoder } = await load(fixture(name), backend);
        const tokens = Int32Array.from({ length: 24 }, (_, i) => (i * 37 + 11) % 96);
        const whole = Array.from(tokens, (_, i) => decoder.nextTokenLogits(tokens.slice(0, i + 1)));
        const before = tf.memory().numTensors;
        fc.assert(
          fc.property(fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 6 }), (lengths) => {
            const cache = new KeyValueCache(decoder.config, tokens.length);
            for (const length of lengths) {
              const begin = cache.length;
              const end = Math.min(tokens.length, begin + length);
              if (begin === end) return;
              const difference = relativeError(
                decoder.nextTokenLogits(tokens.slice(begin, end), cache),
                whole[end - 1]!,
              );
              t.true(difference < 1e-5, `${backend}, [${begin}, ${end}): ${difference}`);
            }
          }),
          { numRuns: backend === 'native' ? 8 : 2 },
        );
        t.is(tf.memory().numTensors, before);
      }
    },
  );
}

test.serial('a cache that was cleared begins anew, and one that is full is an invariant', async (t) => {
  const { decoder } = await load(fixture('qwen3'));
  const cache = new KeyValueCache(decoder.config, 4);
  const first = decoder.nextTokenLogits(Int32Array.of(5, 6, 7), cache).slice();
  cache.clear();
  t.deepEqual(decoder.nextTokenLogits(Int32Array.of(5, 6, 7), cache), first);
  t.is(cache.length, 3);
  t.throws(() => decoder.nextTokenLogits(Int32Array.of(8, 9), cache), {
    message: /5 tokens in a cache of 4/,
  });
});

test.serial(
  'a Hugging Face directory and the checkpoint imported from it generate and score the same',
  async (t) => {
    const checkpoint = join(temporaryDirectory(t), 'checkpoint');
    await importHuggingFace(fixture('qwen3'), checkpoint);
    const [direct, imported] = [await load(fixture('qwen3')), await load(checkpoint)];
    const request = { prompt: 'def make', maxTokens: 30, temperature: 0.9, seed: 3 };
    const text = await direct.generate(request);
    t.true(text.tokens > 3);
    t.deepEqual(await imported.generate(request), text);
    t.notDeepEqual(await direct.generate({ ...request, seed: 4 }), text);
    t.deepEqual(
      await imported.evaluateText('import torch\n'.repeat(20)),
      await direct.evaluateText('import torch\n'.repeat(20)),
    );
  },
);

test.serial('generation goes on beyond the length that the model is meant for', async (t) => {
  const model = await load(fixture('qwen3'));
  t.is(model.sequenceLength, 64);
  const { tokens } = await model.generate({
    prompt: 'x',
    maxTokens: 150,
    temperature: 3,
    seed: 1,
  });
  t.true(tokens > 64, `${tokens} tokens`);
});

test.serial('an end-of-text token of generation_config.json ends a text', async (t) => {
  const directory = join(temporaryDirectory(t), 'model');
  cpSync(fixture('qwen3'), directory, { recursive: true });
  rmSync(join(directory, 'expected.safetensors'));
  const request = { prompt: 'def', maxTokens: 12, temperature: 0, seed: 1 };
  const { tokens } = await (await load(fixture('qwen3'))).generate(request);
  t.true(tokens > 1);
  const model = await load(directory);
  const { tokenizer } = await model.codec();
  const first = model.logits(Int32Array.from(tokenizer.encode('def'))).subarray(-300);
  const likeliest = first.indexOf(Math.max(...first));
  writeFileSync(join(directory, 'generation_config.json'), JSON.stringify({ eos_token_id: [1, likeliest] }));
  t.deepEqual(await (await load(directory)).generate(request), { text: '', tokens: 0 });
});

test.serial('an id of a token that is no number is refused, not passed over', async (t) => {
  const directory = join(temporaryDirectory(t), 'model');
  cpSync(fixture('qwen3'), directory, { recursive: true });
  rmSync(join(directory, 'expected.safetensors'));
  for (const ids of ['2', [1, -1], [1.5]]) {
    writeFileSync(join(directory, 'generation_config.json'), JSON.stringify({ eos_token_id: ids }));
    const error = await failureOf((await load(directory)).codec());
    t.is(error.code, 'SLUICE_E_HF_CONFIG');
    t.true(error.message.includes(`eos_token_id of ${directory} is ${JSON.stringify(ids)}`), error.message);
  }
});

test.serial('no token is sampled that the tokenizer does not have', async (t) => {
  const { decoder } = await load(fixture('qwen3'));
  const seen: number[] = [];
  const tokenizer = {
    vocabularySize: 5,
    endOfTextId: 0,
    encode: () => [1],
    encodeOrdinary: () => [1],
    decode: (ids: ArrayLike<number>) => {
      seen.push(...Array.from(ids));
      return '';
    },
    encodeCorpus: async () => [],
    notes: [],
  };
  const codec = { tokenizer, tokenizerPath: '', start: [], end: [], stop: new Set<number>(), notes: [] };
  const model = new InferenceModel(decoder, {
    sequenceLength: 64,
    loadCodec: async () => codec,
    measureUpdate: async () => ({ missing: 'nothing was trained' }),
  });
  await model.generate({ prompt: '', maxTokens: 40, temperature: 50, seed: 1 });
  t.deepEqual([...new Set(seen)].sort(), [0, 1, 2, 3, 4]);
});

test.serial('a text’s loss is the mean over all its tokens but the first, however it is cut', async (t) => {
  const model = await load(fixture('qwen3'));
  const text = 'The quick brown fox jumps over the lazy dog. '.repeat(3);
  const { tokenizer } = await model.codec();
  const ids = tokenizer.encodeOrdinary(text);
  const whole = await model.evaluateText(text.slice(0, 60));
  const short = tokenizer.encodeOrdinary(text.slice(0, 60));
  const logits = model.logits(Int32Array.from(short.slice(0, -1)));
  let sum = 0;
  for (const [t, target] of short.slice(1).entries()) {
    const row = Array.from(logits.subarray(t * 300, (t + 1) * 300));
    const highest = Math.max(...row);
    const logSum = highest + Math.log(row.reduce((total, x) => total + Math.exp(x - highest), 0));
    sum += logSum - row[target]!;
  }
  t.is(whole.tokens, short.length - 1);
  t.true(Math.abs(whole.loss - sum / whole.tokens) < 1e-5);
  t.is(whole.perplexity, Math.exp(whole.loss));
  for (const sequenceLength of [1, 7, 16, 1000]) {
    const { tokens } = await model.evaluateText(text, { sequenceLength });
    t.is(tokens, ids.length - 1);
  }
  t.is((await failureOf(model.evaluateText(''))).code, 'SLUICE_E_DATA_TOO_SMALL');
});

test.serial('the rotary embedding can be changed after training, and nothing else', async (t) => {
  const plain = await load(fixture('qwen3'));
  const tokens = Int32Array.of(3, 1, 4, 1, 5, 9, 2, 6);
  const set = ['model.ropeScaling.kind=linear', 'model.ropeScaling.factor=2', 'model.ropeTheta=1e6'];
  const scaled = await load(fixture('qwen3'), 'native', set);
  t.deepEqual(scaled.decoder.config.ropeScaling, { kind: 'linear', factor: 2 });
  t.is(scaled.decoder.config.ropeTheta, 1e6);
  t.true(relativeError(scaled.logits(tokens), plain.logits(tokens)) > 1e-3);
  // YaRN as the fixture has it, said here in place of in config.json.
  const yarn = ['kind=yarn', 'factor=4', 'originalLength=16'].map((key) => `model.ropeScaling.${key}`);
  const unscaled = join(temporaryDirectory(t), 'model');
  cpSync(fixture('qwen3-yarn'), unscaled, { recursive: true });
  const config = JSON.parse(readFileSync(join(unscaled, 'config.json'), 'utf8'));
  writeFileSync(join(unscaled, 'config.json'), JSON.stringify({ ...config, rope_scaling: null }));
  rmSync(join(unscaled, 'expected.safetensors'));
  const [said, read] = [await load(unscaled, 'native', yarn), await load(fixture('qwen3-yarn'))];
  t.deepEqual(said.logits(tokens), read.logits(tokens));

  for (const override of [
    'model.hiddenSize=8',
    'model.ropeThetas=3',
    'data.sequenceLength=3',
    'model.ropeScaling.kind',
  ])
    t.is(
      (await failureOf(load(fixture('qwen3'), 'native', [override]))).code,
      'SLUICE_E_CONFIG_OVERRIDE',
      override,
    );
  const wrong = await failureOf(load(fixture('qwen3'), 'native', ['model.ropeTheta=-1']));
  t.is(wrong.code, 'SLUICE_E_CONFIG_INVALID');
});

test.serial('what is missing is told when it is asked for, not before', async (t) => {
  const silent = await load(fixture('gated-headwise'));
  t.is(silent.logits(Int32Array.of(1, 2)).length, 2 * 96);
  const request = { prompt: 'x', maxTokens: 1, temperature: 0, seed: 1 };
  t.is((await failureOf(silent.generate(request))).code, 'SLUICE_E_TOKENIZER_MISSING');
  t.is((await failureOf(silent.evaluate({ split: 'validation' }))).code, 'SLUICE_E_DATA_UNKNOWN');
  const checkpoint = join(temporaryDirectory(t), 'checkpoint');
  await importHuggingFace(fixture('gated-headwise'), checkpoint);
  t.is((await failureOf((await load(checkpoint)).generate(request))).code, 'SLUICE_E_TOKENIZER_MISSING');
});

test.serial('a tokenizer with more tokens than the model knows is refused', async (t) => {
  const directory = join(temporaryDirectory(t), 'model');
  cpSync(fixture('qwen3-yarn'), directory, { recursive: true });
  rmSync(join(directory, 'expected.safetensors'));
  cpSync(join(fixture('qwen3'), 'tokenizer.json'), join(directory, 'tokenizer.json'));
  const error = await failureOf((await load(directory)).codec());
  t.is(error.code, 'SLUICE_E_VOCABULARY_TOO_SMALL');
  t.regex(error.message, /knows 96 tokens, but its tokenizer has 300/);
});

test.serial(
  'weights of many times the memory are refused before any is read, with both figures',
  async (t) => {
    const { config } = (await load(fixture('qwen3'))).decoder;
    const bytes = 4 * modelParameters(config).reduce((sum, { size }) => sum + size, 0);
    t.notThrows(() => refuseTooLarge(config, bytes / 2));
    t.throws(() => refuseTooLarge(config, bytes / 2 - 1), {
      code: 'SLUICE_E_MODEL_TOO_LARGE',
      message: /^The model has \S+ GiB of weights in single precision, and there is \S+ GiB of memory\.$/,
    });
  },
);

test.serial('a text that is interrupted ends with what has come', async (t) => {
  const model = await load(fixture('qwen3'));
  const request = { prompt: 'a', temperature: 0, seed: 1 };
  let looks = 0;
  const signal = {
    get aborted() {
      return looks++ === 5;
    },
  };
  const cut = await model.generate({ ...request, maxTokens: 100, signal: signal as AbortSignal });
  t.is(cut.tokens, 5);
  t.deepEqual(await model.generate({ ...request, maxTokens: 5 }), cut);
});
