/** Which files of a Hugging Face directory are read, and what is refused of them. */

import { copyFileSync, cpSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SafetensorsFile, type TensorData, writeSafetensors } from '@sluice/checkpoint';
import { HuggingFaceDirectory, importHuggingFace } from '@sluice/checkpoint/huggingface';
import type { ErrorCode } from '@sluice/core';
import test, { type ExecutionContext } from 'ava';
import { fixture } from '../fixtures/huggingface/fixtures.ts';
import { failureOf } from '../support/failureOf.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';

const SINGLE = 'model.safetensors';
const INDEX = 'model.safetensors.index.json';
const NORM = 'model.norm.weight';

/** Copy of a small model, tied, in one file of f32. */
class Copy {
  readonly path: string;

  constructor(t: ExecutionContext, name = 'qwen3-yarn') {
    this.path = join(temporaryDirectory(t), 'model');
    cpSync(fixture(name), this.path, { recursive: true });
    rmSync(join(this.path, 'expected.safetensors'));
  }

  at(name: string): string {
    return join(this.path, name);
  }

  async tensors(): Promise<Map<string, TensorData & { values: Float32Array }>> {
    const file = await SafetensorsFile.open(this.at(SINGLE));
    const tensors = new Map<string, TensorData & { values: Float32Array }>();
    for (const [name, { shape }] of file.tensors) {
      const values = new Float32Array(shape.reduce((a, b) => a * b, 1));
      await file.readFloats(name, values);
      tensors.set(name, { name, dtype: 'F32', shape, values });
    }
    await file.close();
    return tensors;
  }

  async write(name: string, tensors: Iterable<TensorData>): Promise<void> {
    rmSync(this.at(name), { force: true });
    await writeSafetensors(this.at(name), [...tensors]);
  }

  /** Cuts the model into two files with an index. */
  async split(): Promise<Record<string, string>> {
    const tensors = [...(await this.tensors()).values()];
    const halves = { 'a.safetensors': tensors.slice(0, 5), 'b c.safetensors': tensors.slice(5) };
    for (const [name, part] of Object.entries(halves)) await this.write(name, part);
    rmSync(this.at(SINGLE));
    const map = Object.entries(halves).flatMap(([file, part]) => part.map(({ name }) => [name, file]));
    const weightMap = Object.fromEntries(map) as Record<string, string>;
    this.index(weightMap);
    return weightMap;
  }

  index(weightMap: Record<string, string>): void {
    writeFileSync(this.at(INDEX), JSON.stringify({ metadata: { total_size: 1 }, weight_map: weightMap }));
  }

  /** A weight as it is read. */
  async norm(): Promise<Float32Array> {
    const opened = await HuggingFaceDirectory.open(this.path);
    try {
      const values = new Float32Array(opened.model.hiddenSize);
      await opened.read(NORM, values);
      return values;
    } finally {
      await opened.close();
    }
  }

  async refused(t: ExecutionContext, message: RegExp, code: ErrorCode = 'SLUICE_E_HF_TENSORS') {
    const error = await failureOf(HuggingFaceDirectory.open(this.path));
    t.is(error.code, code, error.message);
    t.regex(error.message, message);
  }
}

test('model.safetensors goes before an index beside it, and that is told', async (t) => {
  const copy = new Copy(t);
  const right = await copy.norm();
  const zeros = [...(await copy.tensors()).values()].map((tensor) => ({
    ...tensor,
    values: new Float32Array(tensor.values.length),
  }));
  await copy.write('old.safetensors', zeros);
  copy.index(Object.fromEntries(zeros.map(({ name }) => [name, 'old.safetensors'])));
  t.deepEqual(await copy.norm(), right);
  const opened = await HuggingFaceDirectory.open(copy.path);
  t.deepEqual(opened.notes.length, 1);
  t.regex(opened.notes[0]!, /index\.json beside it is passed over/);
  await opened.close();
  rmSync(copy.at('old.safetensors'));
  t.deepEqual(await copy.norm(), right);
});

test('an adapter beside the weights is passed over with a word', async (t) => {
  const copy = new Copy(t);
  writeFileSync(copy.at('adapter_config.json'), '{}');
  const opened = await HuggingFaceDirectory.open(copy.path);
  t.regex(opened.notes.join(), /the adapter of adapter_config\.json beside the weights is passed over/);
  await opened.close();
});

test('the files of an index are read, wherever in them a tensor lies, and no others', async (t) => {
  const copy = new Copy(t);
  const right = await copy.norm();
  const weightMap = await copy.split();
  const entry = Object.keys(weightMap)[0]!;
  copy.index({ ...weightMap, [entry]: 'b c.safetensors' });
  copyFileSync(copy.at('a.safetensors'), copy.at('consolidated.safetensors'));
  t.deepEqual(await copy.norm(), right);
  copy.index({ ...weightMap, 'model.extra': 'a.safetensors' });
  await copy.refused(t, /the index names model\.extra, which is in no file/);
});

test('without an index all files are read but adapters, and a tensor in two of them is refused', async (t) => {
  const copy = new Copy(t);
  const right = await copy.norm();
  await copy.split();
  rmSync(copy.at(INDEX));
  const [first] = (await new Copy(t).tensors()).values();
  await copy.write('adapter_model.safetensors', [{ ...first!, name: 'base_model.lora_A' }]);
  t.deepEqual(await copy.norm(), right);
  await copy.write('z.safetensors', [first!]);
  await copy.refused(t, new RegExp(`${first!.name} is in both a\\.safetensors and z\\.safetensors`));
});

const POINTER = 'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1234\n';
for (const name of [SINGLE, 'config.json']) {
  test(`a pointer of Git LFS in the place of ${name} is named as one`, async (t) => {
    const copy = new Copy(t);
    writeFileSync(copy.at(name), POINTER);
    await copy.refused(t, new RegExp(`${name} is a pointer of Git LFS`), 'SLUICE_E_HF_LFS_POINTER');
  });
}

test('a tokenizer that is a pointer of Git LFS is not imported, and nothing is left of the import', async (t) => {
  const copy = new Copy(t, 'qwen3');
  writeFileSync(copy.at('tokenizer.json'), POINTER);
  const target = join(temporaryDirectory(t), 'checkpoint');
  const error = await failureOf(importHuggingFace(copy.path, target));
  t.is(error.code, 'SLUICE_E_HF_LFS_POINTER');
  t.regex(error.message, /tokenizer\.json is a pointer/);
  t.false(existsSync(target));
});

for (const [name, message] of [
  ['model.gguf', /only model\.gguf, which Sluice does not read/],
  ['consolidated.00.pth', /only consolidated\.00\.pth/],
  ['adapter_model.safetensors', /only an adapter \(adapter_model\.safetensors\): merge it/],
] as const) {
  test(`a directory with ${name} in the place of weights is told so`, async (t) => {
    const copy = new Copy(t);
    rmSync(copy.at(SINGLE));
    writeFileSync(copy.at(name), '');
    await copy.refused(t, message);
  });
}

test('each tensor may have its own type, of those that 32-bit floats hold exactly', async (t) => {
  const copy = new Copy(t, 'gated-none');
  const tensors = await copy.tensors();
  const right = await copy.norm();
  const { shape } = tensors.get(NORM)!;
  const half = await SafetensorsFile.open(copy.at(SINGLE));
  const { offset, byteLength } = half.tensors.get(NORM)!;
  await half.close();
  const bytes = readFileSync(copy.at(SINGLE)).subarray(offset, offset + byteLength);
  tensors.set(NORM, { name: NORM, dtype: 'BF16', shape, values: bytes as never });
  await copy.write(SINGLE, tensors.values());
  t.deepEqual(await copy.norm(), right);
  for (const dtype of ['F64', 'F8_E4M3', 'I64'] as const) {
    const values = Buffer.alloc(shape[0]! * { F64: 8, F8_E4M3: 1, I64: 8 }[dtype]);
    tensors.set(NORM, { name: NORM, dtype, shape, values: values as never });
    await copy.write(SINGLE, tensors.values());
    await copy.refused(t, new RegExp(`${NORM} in model\\.safetensors is of type ${dtype}, not one of F32`));
  }
});

for (const value of [Number.NaN, Number.NEGATIVE_INFINITY]) {
  test(`a weight that is ${value} is refused when it is read, with its place`, async (t) => {
    const copy = new Copy(t);
    const tensors = await copy.tensors();
    tensors.get(NORM)!.values[3] = value;
    await copy.write(SINGLE, tensors.values());
    const error = await failureOf(copy.norm());
    t.is(error.code, 'SLUICE_E_HF_NON_FINITE');
    t.regex(error.message, new RegExp(`Element 3 of ${NORM} in .*model\\.safetensors is ${value}`));
  });
}

test('a tied output projection may be stored too, and must then be the embedding', async (t) => {
  // Stored in 16 bits, and the projection in 32.
  const copy = new Copy(t, 'gated-none');
  const embedding = (await copy.tensors()).get('model.embed_tokens.weight')!;
  const original = readFileSync(copy.at(SINGLE));
  const output = { ...embedding, name: 'lm_head.weight', values: embedding.values.slice() };
  rmSync(copy.at(SINGLE));
  writeFileSync(copy.at('a.safetensors'), original);
  await copy.write('b.safetensors', [output]);
  t.is((await copy.norm()).length, 16);
  output.values[700]! += 1;
  await copy.write('b.safetensors', [output]);
  await copy.refused(t, /lm_head\.weight differs from model\.embed_tokens\.weight.*ties them/);
});

test('frequencies of the rotary embedding are passed over, other tensors are not', async (t) => {
  const copy = new Copy(t);
  const tensors = [...(await copy.tensors()).values()];
  const more = (name: string) => ({ name, dtype: 'F32' as const, shape: [4], values: new Float32Array(4) });
  const layer = 'model.layers.1.self_attn';
  await copy.write(SINGLE, [
    ...tensors,
    more('model.rotary_emb.inv_freq'),
    more(`${layer}.rotary_emb.inv_freq`),
  ]);
  t.is((await copy.norm()).length, 16);
  await copy.write(SINGLE, [...tensors, more('score.weight'), more('vision.rotary_emb.inv_freq')]);
  await copy.refused(t, /score\.weight is of no use.*vision\.rotary_emb\.inv_freq is of no use/);
});
