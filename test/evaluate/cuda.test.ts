/** Trained models on the `cuda` backend, its kernels on the emulator. */

import { cudaBackend } from '@sluice/engine/cuda';
import { loadForInference } from '@sluice/evaluate';
import { KeyValueCache, modelParameters } from '@sluice/model';
import test from 'ava';
import { CASES, FAMILY_CASES, fixture } from '../fixtures/huggingface/fixtures.ts';
import { failureOf } from '../support/failureOf.ts';
import { relativeError } from '../support/relativeError.ts';

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

test.serial('a model that is closed gives the memory of its weights back', async (t) => {
  const model = await load('qwen3', 'cuda', 'f32');
  const usedBytes = () => cudaBackend().device.arena.statistics().usedBytes;
  const before = usedBytes();
  model.close();
  const weights = modelParameters(model.decoder.config).reduce((sum, { size }) => sum + size, 0);
  t.true(before - usedBytes() >= 4 * weights);
});

test.serial('a backend whose values can only be awaited is refused before anything is read', async (t) => {
  const { code, message } = await failureOf(load('nowhere', 'webgpu'));
  t.is(code, 'SLUICE_E_BACKEND_UNSUPPORTED');
  t.regex(message, /"webgpu"/);
});
