import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  commitCheckpoint,
  hashCheckpoint,
  openCheckpoint,
  prepareDirectory,
  SafetensorsFile,
  writeSafetensors,
  writeShard,
} from '@sluice/checkpoint';
import {
  exportHuggingFace,
  HuggingFaceDirectory,
  importHuggingFace,
  isHuggingFaceDirectory,
} from '@sluice/checkpoint/huggingface';
import { type ErrorCode, type SluiceError, sha256 } from '@sluice/core';
import { ModelConfig, modelTensors } from '@sluice/model';
import test from 'ava';
import { CASES, fixture } from '../fixtures/huggingface/fixtures.ts';
import { failureOf } from '../support/failureOf.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';
import { valuesOf } from './helpers.ts';

/** Every tensor of a Hugging Face directory: name, type, shape and hash of the bytes. */
async function contentOf(directory: string): Promise<string[]> {
  const content: string[] = [];
  for (const name of readdirSync(directory)) {
    if (!name.endsWith('.safetensors') || name === 'expected.safetensors') continue;
    const file = await SafetensorsFile.open(join(directory, name));
    const bytes = readFileSync(file.path);
    for (const [tensor, { dtype, shape, offset, byteLength }] of file.tensors) {
      content.push(`${tensor} ${dtype} [${shape}] ${sha256(bytes.subarray(offset, offset + byteLength))}`);
    }
    await file.close();
  }
  return content.sort();
}

const STORED: Record<string, 'f32' | 'bf16' | 'f16'> = {
  'gated-none': 'bf16',
  'gated-elementwise': 'bf16',
  'gated-headwise': 'f16',
};

for (const name of CASES) {
  test(`${name}: imported and exported again, all bytes of all tensors are the same`, async (t) => {
    const directory = temporaryDirectory(t);
    const [checkpoint, target] = [join(directory, 'checkpoint'), join(directory, 'hf')];
    const imported = await importHuggingFace(fixture(name), checkpoint);
    t.is(imported.layout, name.startsWith('gated') ? 'gated' : imported.layout);
    const dtype = STORED[name] ?? 'f32';
    const exported = await exportHuggingFace({ checkpoint, target, dtype });
    t.is(exported.layout, imported.layout);
    t.deepEqual(await contentOf(target), await contentOf(fixture(name)));
    // And the configuration means the same.
    const read = await HuggingFaceDirectory.open(target);
    t.deepEqual(read.model, imported.model);
    t.is(read.layout, imported.layout);
    t.is(read.maxLength, 64);
    await read.close();
  });
}

test('an imported checkpoint verifies itself, hashes its content and holds parameters alone', async (t) => {
  const checkpoint = join(temporaryDirectory(t), 'checkpoint');
  const { weights, parameters } = await importHuggingFace(fixture('qwen3-moe'), checkpoint);
  const hashes = await hashCheckpoint(checkpoint);
  t.is(hashes.weights, weights);
  t.true(hashes.matchesManifest);
  t.is(hashes.optimizer, null);
  const reader = await openCheckpoint(checkpoint, { verify: true });
  t.deepEqual(reader.manifest.kinds, ['parameter']);
  t.is(
    parameters,
    modelTensors(ModelConfig.parse((reader.manifest.config as { model: unknown }).model)).reduce(
      (n, { size }) => n + size,
      0,
    ),
  );
  await reader.close();
});

test('per-expert and fused experts are the same model', async (t) => {
  const directory = temporaryDirectory(t);
  const [checkpoint, target] = [join(directory, 'checkpoint'), join(directory, 'hf')];
  const { weights } = await importHuggingFace(fixture('qwen3-moe'), checkpoint);
  await exportHuggingFace({ checkpoint, target, dtype: 'f32', layout: 'qwen3-moe-fused' });
  t.deepEqual(await contentOf(target), await contentOf(fixture('qwen3-moe-fused')));
  const back = await importHuggingFace(target, join(directory, 'back'));
  t.is(back.layout, 'qwen3-moe-fused');
  t.is(back.weights, weights);
});

test('weights are cut into files with an index, and tokenizer and special tokens come along', async (t) => {
  const directory = temporaryDirectory(t);
  const [checkpoint, target] = [join(directory, 'checkpoint'), join(directory, 'hf')];
  const { weights, tokenizerFiles } = await importHuggingFace(fixture('qwen3'), checkpoint);
  t.deepEqual(tokenizerFiles, ['tokenizer.json', 'tokenizer_config.json', 'generation_config.json']);
  const progress: number[] = [];
  const { weightFiles, parameters } = await exportHuggingFace({
    checkpoint,
    target,
    dtype: 'f32',
    shardBytes: 20_000,
    onProgress: (done) => progress.push(done),
  });
  t.true(weightFiles.length > 2);
  t.regex(weightFiles[1]!, /^model-00002-of-0000\d\.safetensors$/);
  t.is(progress.at(-1), parameters);
  const index = JSON.parse(readFileSync(join(target, 'model.safetensors.index.json'), 'utf8'));
  t.is(index.metadata.total_size, 4 * parameters);
  for (const [tensor, file] of Object.entries(index.weight_map)) {
    const opened = await SafetensorsFile.open(join(target, String(file)));
    t.true(opened.tensors.has(tensor));
    await opened.close();
  }
  for (const name of tokenizerFiles)
    t.deepEqual(readFileSync(join(target, name)), readFileSync(join(fixture('qwen3'), name)));
  t.is((await importHuggingFace(target, join(directory, 'back'))).weights, weights);
});

test('rounded weights are read back exactly, so the second round changes nothing', async (t) => {
  const directory = temporaryDirectory(t);
  await importHuggingFace(fixture('qwen3'), join(directory, '0'));
  for (const dtype of ['bf16', 'f16'] as const) {
    const at = (step: string) => join(directory, `${dtype}-${step}`);
    await exportHuggingFace({ checkpoint: join(directory, '0'), target: at('hf'), dtype });
    t.is(
      JSON.parse(readFileSync(join(at('hf'), 'config.json'), 'utf8')).torch_dtype,
      dtype === 'bf16' ? 'bfloat16' : 'float16',
    );
    await importHuggingFace(at('hf'), at('1'));
    await exportHuggingFace({ checkpoint: at('1'), target: at('again'), dtype });
    t.deepEqual(await contentOf(at('again')), await contentOf(at('hf')));
  }
});

/** A checkpoint as a run saves it, with weights of any size. */
async function savedCheckpoint(directory: string, model: ModelConfig, scale = 1): Promise<string> {
  const checkpoint = join(directory, 'saved');
  await prepareDirectory(checkpoint);
  const tensors = modelTensors(model).map(({ name, shape }) => ({ name, shape }));
  const pieces = tensors.map((tensor) => {
    const values = valuesOf(1, 'parameter', tensor).map((x) => x * scale);
    return { tensor, kind: 'parameter' as const, begin: 0, end: values.length, values };
  });
  await commitCheckpoint({
    directory: checkpoint,
    step: 3,
    tensors,
    kinds: ['parameter'],
    shards: [await writeShard(checkpoint, 0, pieces)],
    config: { model, data: { sequenceLength: 48 } },
    configHash: 'x',
    state: { dataDirectory: join(directory, 'gone') },
    probe: {},
  });
  return checkpoint;
}

const small = {
  vocabularySize: 16,
  hiddenSize: 8,
  numLayers: 1,
  numAttentionHeads: 2,
  numKeyValueHeads: 1,
  headDim: 4,
  intermediateSize: 8,
};

test('a run’s checkpoint is exported with the length that it was trained at, also when its corpus is gone', async (t) => {
  const directory = temporaryDirectory(t);
  const model = ModelConfig.parse(small);
  const checkpoint = await savedCheckpoint(directory, model);
  const target = join(directory, 'hf');
  const { layout, tokenizerFiles } = await exportHuggingFace({ checkpoint, target, dtype: 'f32' });
  t.is(layout, 'gated');
  t.deepEqual(tokenizerFiles, []);
  const read = await HuggingFaceDirectory.open(target);
  t.deepEqual(read.model, model);
  t.is(read.maxLength, 48);
  await read.close();
});

test('a weight that f16 cannot hold is refused, and no directory passes for a model', async (t) => {
  const directory = temporaryDirectory(t);
  const checkpoint = await savedCheckpoint(directory, ModelConfig.parse(small), 1e8);
  const target = join(directory, 'hf');
  const error = await failureOf(exportHuggingFace({ checkpoint, target, dtype: 'f16' }));
  t.is(error.code, 'SLUICE_E_HF_RANGE');
  t.regex(error.message, /model\.embed_tokens\.weight holds -?\d.*which f16 cannot/);
  t.false(isHuggingFaceDirectory(target));
  await exportHuggingFace({ checkpoint, target: join(directory, 'bf16'), dtype: 'bf16' });
  t.true(isHuggingFaceDirectory(join(directory, 'bf16')));
});

test('a checkpoint of a model that cannot be had is refused with the key', async (t) => {
  const directory = temporaryDirectory(t);
  const model = { ...ModelConfig.parse(small), numKeyValueHeads: 3 };
  const checkpoint = await savedCheckpoint(directory, model);
  const target = join(directory, 'hf');
  const error = await failureOf(exportHuggingFace({ checkpoint, target, dtype: 'f32' }));
  t.is(error.code, 'SLUICE_E_CONFIG_INVALID');
  t.regex(error.message, /model\.numKeyValueHeads: 3 key-value heads do not divide 2/);
});

test('nothing is written over', async (t) => {
  const directory = temporaryDirectory(t);
  writeFileSync(join(directory, 'mine.txt'), 'kept');
  const importing = await failureOf(importHuggingFace(fixture('qwen3'), directory));
  t.is(importing.code, 'SLUICE_E_OUTPUT_EXISTS');
  t.regex(importing.message, /mine\.txt/);
  const checkpoint = join(directory, 'checkpoint');
  await importHuggingFace(fixture('qwen3'), checkpoint);
  const exporting = await failureOf(exportHuggingFace({ checkpoint, target: checkpoint, dtype: 'f32' }));
  t.is(exporting.code, 'SLUICE_E_OUTPUT_EXISTS');
  t.true(isHuggingFaceDirectory(fixture('qwen3')));
  t.false(isHuggingFaceDirectory(checkpoint));
});

test('an import or export that is interrupted leaves nothing, and can be repeated', async (t) => {
  const directory = temporaryDirectory(t);
  const [checkpoint, target] = [join(directory, 'checkpoint'), join(directory, 'hf')];
  const interrupted = () => {
    const controller = new AbortController();
    const onProgress = () => controller.abort(new Error('interrupted'));
    return { onProgress, signal: controller.signal };
  };
  mkdirSync(target);
  await t.throwsAsync(importHuggingFace(fixture('qwen3'), checkpoint, interrupted()), {
    message: 'interrupted',
  });
  t.deepEqual(readdirSync(directory), ['hf'], 'a new directory is gone');
  await importHuggingFace(fixture('qwen3'), checkpoint);
  const request = { checkpoint, target, dtype: 'f32', shardBytes: 4096 } as const;
  await t.throwsAsync(exportHuggingFace({ ...request, ...interrupted() }), { message: 'interrupted' });
  t.deepEqual(readdirSync(target), [], 'one that was there is empty again');
  t.true((await exportHuggingFace(request)).weightFiles.length > 1);
});

test('a layout that cannot say the model is refused before anything is written', async (t) => {
  const directory = temporaryDirectory(t);
  const [checkpoint, target] = [join(directory, 'checkpoint'), join(directory, 'hf')];
  await importHuggingFace(fixture('gated-headwise'), checkpoint);
  const error = await failureOf(exportHuggingFace({ checkpoint, target, dtype: 'f32', layout: 'qwen3' }));
  t.is(error.code, 'SLUICE_E_HF_UNSUPPORTED');
  t.regex(error.message, /headwise gate.*use the layout gated/);
  t.false(existsSync(target));
});

/** A copy of a fixture with something done to it. */
async function spoiled(
  directory: string,
  name: string,
  spoil: (path: string) => unknown,
): Promise<SluiceError> {
  const path = join(directory, 'spoiled');
  rmSync(path, { recursive: true, force: true });
  cpSync(fixture(name), path, { recursive: true });
  rmSync(join(path, 'expected.safetensors'), { force: true });
  await spoil(path);
  return failureOf(HuggingFaceDirectory.open(path));
}

test('weights that only Python can read are refused with the command that converts them', async (t) => {
  const error = await spoiled(temporaryDirectory(t), 'gated-none', (path) => {
    rmSync(join(path, 'model.safetensors'));
    writeFileSync(join(path, 'pytorch_model.bin'), 'PK');
  });
  t.is(error.code, 'SLUICE_E_HF_PYTORCH_FILE');
  t.regex(error.message, /python3 -c ".*save_file.*spoiled\/pytorch_model\*\.bin'/s);
});

test('weights that are not those of the configuration are told, each', async (t) => {
  const directory = temporaryDirectory(t);
  const norm = 'model.norm.weight';
  const replace = (change: (tensors: Map<string, number[]>) => void) =>
    spoiled(directory, 'qwen3-yarn', async (path) => {
      const shapes = new Map<string, number[]>();
      const file = await SafetensorsFile.open(join(path, 'model.safetensors'));
      for (const [name, { shape }] of file.tensors) shapes.set(name, [...shape]);
      await file.close();
      change(shapes);
      const tensors = [...shapes].map(([name, shape]) => {
        const values = new Float32Array(shape.reduce((a, b) => a * b, 1));
        return { name, dtype: 'F32' as const, shape, values };
      });
      await writeSafetensors(join(path, 'model.safetensors'), tensors);
    });
  const error = await replace((shapes) => {
    shapes.delete(norm);
    shapes.set('model.layers.1.self_attn.k_proj.weight', [16, 17]);
    shapes.set('model.layers.0.self_attn.q_proj.bias', [32]);
  });
  t.is(error.code, 'SLUICE_E_HF_TENSORS');
  t.regex(error.message, /model\.norm\.weight is missing/);
  t.regex(error.message, /k_proj\.weight has the shape \[16, 17\], config\.json makes it \[16, 16\]/);
  t.regex(error.message, /q_proj\.bias is of no use to the model/);
});

/** Leaves an index that names one file. */
function indexAlone(path: string, file: string): void {
  rmSync(join(path, 'model.safetensors'));
  writeFileSync(join(path, 'model.safetensors.index.json'), JSON.stringify({ weight_map: { a: file } }));
}

const broken: [string, (path: string) => void, ErrorCode, RegExp][] = [
  [
    'no weights',
    (path) => rmSync(join(path, 'model.safetensors')),
    'SLUICE_E_HF_TENSORS',
    /holds no weights/,
  ],
  ['no configuration', (path) => rmSync(join(path, 'config.json')), 'SLUICE_E_FILE_MISSING', /config\.json/],
  [
    'a torn configuration',
    (path) => writeFileSync(join(path, 'config.json'), '{"a":'),
    'SLUICE_E_HF_CONFIG',
    /JSON/,
  ],
  [
    'a configuration that is a list',
    (path) => writeFileSync(join(path, 'config.json'), '[]'),
    'SLUICE_E_HF_CONFIG',
    /no object/,
  ],
  [
    'an index that leads elsewhere',
    (path) => indexAlone(path, '../x.safetensors'),
    'SLUICE_E_HF_TENSORS',
    /names the file "\.\.\/x\.safetensors"/,
  ],
  [
    'a file of the index that is not there',
    (path) => indexAlone(path, 'x.safetensors'),
    'SLUICE_E_FILE_MISSING',
    /x\.safetensors/,
  ],
  [
    'a cut file of weights',
    (path) =>
      writeFileSync(
        join(path, 'model.safetensors'),
        readFileSync(join(path, 'model.safetensors')).subarray(0, -9),
      ),
    'SLUICE_E_SAFETENSORS_INVALID',
    /bytes/,
  ],
];
for (const [what, spoil, code, message] of broken) {
  test(`a directory with ${what} is refused`, async (t) => {
    const error = await spoiled(temporaryDirectory(t), 'gated-none', spoil);
    t.is(error.code, code);
    t.regex(error.message, message);
  });
}

test('a tensor that is streamed must give the bytes that its shape asks for', async (t) => {
  const path = join(temporaryDirectory(t), 'x.safetensors');
  const stream = (parts: number[]) => ({
    name: 'x',
    dtype: 'F32' as const,
    shape: [5],
    async *values() {
      for (const length of parts) yield new Float32Array(length).fill(length);
    },
  });
  await t.throwsAsync(writeSafetensors(path, [stream([2, 2])]), { message: /x has 16 bytes, not 20/ });
  t.false(existsSync(path));
  await writeSafetensors(path, [stream([2, 3])]);
  const file = await SafetensorsFile.open(path);
  const values = new Float32Array(5);
  await file.readFloats('x', values);
  t.deepEqual([...values], [2, 2, 3, 3, 3]);
  await file.close();
});
