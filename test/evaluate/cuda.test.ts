/** Trained models on the `cuda` backend, its kernels on the emulator. */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { cudaBackend } from '@sluice/engine/cuda';
import { type InferenceModel, loadForInference } from '@sluice/evaluate';
import { KeyValueCache, ModelConfig, modelParameters, modelTensors } from '@sluice/model';
import test from 'ava';
import { CASES, FAMILY_CASES, fixture } from '../fixtures/huggingface/fixtures.ts';
import { failureOf } from '../support/failureOf.ts';
import { relativeError } from '../support/relativeError.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';

process.env.SLUICE_CUDA = 'emulated';
process.env.SLUICE_CUDA_WATCH = 'off';

const load = (name: string, backend: string, precision?: 'bf16' | 'f32') =>
  loadForInference(fixture(name), { backend, precision, threads: 1 });

const LENGTH = 16;
const BEGIN = 10;
const tokens = Int32Array.from({ length: LENGTH }, (_, i) => (i * 37 + 11) % 32);

/** Heads of four channels. */
const WITHOUT_KERNEL = ['olmo-hybrid'];

for (const name of [...CASES, ...FAMILY_CASES].filter((one) => !WITHOUT_KERNEL.includes(one))) {
  test.serial(
    `${name}: logits in single precision are native’s, and the same bits with a cache`,
    async (t) => {
      const native = (await load(name, 'native')).logits(tokens);
      const model = await load(name, 'cuda', 'f32');
      const logits = model.logits(tokens);
      const difference = relativeError(logits, native);
      t.true(difference < 1e-5, `${difference}`);
      const { decoder } = model;
      const cache = new KeyValueCache(decoder.config, LENGTH);
      decoder.nextTokenLogits(tokens.slice(0, BEGIN), cache);
      const vocabulary = logits.length / LENGTH;
      for (let i = BEGIN; i < LENGTH; i++)
        t.deepEqual(
          decoder.nextTokenLogits(tokens.slice(i, i + 1), cache).slice(),
          logits.slice(i * vocabulary, (i + 1) * vocabulary),
        );
      model.close();
    },
  );
}

test.serial(
  'sizes that no kernel takes are refused before weights are read, by their keys, as in training',
  async (t) => {
    const code = 'SLUICE_E_CUDA_KERNEL';
    await t.throwsAsync(load('olmo-hybrid', 'cuda', 'f32'), { code, message: /^model\.headDim is 4, / });
    await t.throwsAsync(load('qwen3', 'cuda', 'bf16'), { code, message: /^model\.intermediateSize is 20, / });
  },
);

const usedBytes = () => cudaBackend().device.arena.statistics().usedBytes;

/** What is given back when it is closed. */
function bytesOf(model: InferenceModel): number {
  const before = usedBytes();
  model.close();
  return before - usedBytes();
}

test.serial('a model that is closed gives the memory of its weights back', async (t) => {
  const model = await load('qwen3', 'cuda', 'f32');
  const weights = modelParameters(model.decoder.config).reduce((sum, { size }) => sum + size, 0);
  t.true(bytesOf(model) >= 4 * weights);
});

/** A Qwen3 of sizes that kernels in bf16 take, written to `directory`. */
function writeModel(directory: string): void {
  const sizes = { hidden_size: 32, intermediate_size: 64, head_dim: 16, tie_word_embeddings: false };
  const config = { ...JSON.parse(readFileSync(join(fixture('qwen3'), 'config.json'), 'utf8')), ...sizes };
  writeFileSync(join(directory, 'config.json'), JSON.stringify(config));
  const model = ModelConfig.parse({
    vocabularySize: config.vocab_size,
    hiddenSize: sizes.hidden_size,
    numLayers: config.num_hidden_layers,
    numAttentionHeads: config.num_attention_heads,
    numKeyValueHeads: config.num_key_value_heads,
    headDim: sizes.head_dim,
    gate: { granularity: 'none' },
    intermediateSize: sizes.intermediate_size,
  });
  let end = 0;
  const entries = modelTensors(model).map(({ name, shape, size }) => {
    const begin = end;
    end += 4 * size;
    return [name, { dtype: 'F32', shape, data_offsets: [begin, end] }];
  });
  const header = Buffer.from(JSON.stringify(Object.fromEntries(entries)));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  const values = Float32Array.from({ length: end / 4 }, (_, i) => Math.sin(i * 12.9898) / 8);
  writeFileSync(
    join(directory, 'model.safetensors'),
    Buffer.concat([length, header, Buffer.from(values.buffer)]),
  );
}

test.serial('weights that passes read in bf16 lie on the device so alone, but those of logits', async (t) => {
  const directory = temporaryDirectory(t);
  writeModel(directory);
  const open = (backend: string) => loadForInference(directory, { backend, threads: 1 });
  const expected = (await open('native')).logits(tokens);
  const model = await open('cuda');
  const sizes = { rounded: 0, single: 0 };
  for (const { size, readIn, group } of modelParameters(model.decoder.config)) {
    const isRounded = readIn === 'activations' && group !== 'embedding' && group !== 'head';
    sizes[isRounded ? 'rounded' : 'single'] += size;
  }
  const { rounded, single } = sizes;
  const bytes = bytesOf(model);
  t.true(bytes >= 2 * rounded + 4 * single);
  t.true(bytes < 3 * rounded + 4 * single, `${bytes} bytes of ${rounded} and ${single} values`);
  const again = await open('cuda');
  const error = relativeError(again.logits(tokens), expected);
  t.true(error < 0.02, `${error}`);
  again.close();
});

test.serial('a backend whose values can only be awaited is refused before anything is read', async (t) => {
  const { code, message } = await failureOf(load('nowhere', 'webgpu'));
  t.is(code, 'SLUICE_E_BACKEND_UNSUPPORTED');
  t.regex(message, /"webgpu"/);
});
