import { cpSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readManifest } from '@sluice/checkpoint';
import { EXPORT_TYPES } from '@sluice/checkpoint/huggingface';
import type { InferenceModel } from '@sluice/evaluate';
import { HUGGING_FACE_LAYOUTS } from '@sluice/model';
import { OptimizerConfig } from '@sluice/train';
import test from 'ava';
import { exportCommand } from '../../launcher/src/commands/export.ts';
import { main } from '../../launcher/src/main.ts';
import { checkInitialWeights } from '../../launcher/src/run/initialWeights.ts';
import { writeLogits } from '../../launcher/src/run/tokenIds.ts';
import { expectedOf, fixture } from '../fixtures/huggingface/fixtures.ts';
import { relativeError } from '../support/relativeError.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';

/** Runs a command line in this process; its one JSON object. */
async function sluice(...words: string[]) {
  let out = '';
  const ignore = () => undefined;
  const code = await main([...words, '--json'], {
    out: (text) => {
      out += text;
    },
    err: ignore,
  });
  return { code, json: JSON.parse(out) };
}

test.serial('import, hash, export and import again: the same weights', async (t) => {
  const directory = temporaryDirectory(t);
  const at = (name: string) => join(directory, name);
  const imported = await sluice('import', fixture('qwen3-moe'), '--out', at('checkpoint'));
  t.is(imported.code, 0);
  t.like(imported.json, {
    checkpoint: at('checkpoint'),
    layout: 'qwen3-moe',
    maxLength: 64,
    tokenizerFiles: [],
  });
  t.is(imported.json.model.experts.count, 6);
  const hashed = await sluice('hash', at('checkpoint'));
  t.is(hashed.json.weights, imported.json.weights);
  const exported = await sluice('export', at('checkpoint'), '--hf', at('hf'), '--layout', 'qwen3-moe-fused');
  t.like(exported.json, { layout: 'qwen3-moe-fused', dtype: 'f32', parameters: imported.json.parameters });
  const again = await sluice('import', at('hf'), '--out', at('again'));
  t.is(again.json.weights, imported.json.weights);
  const refused = await sluice('import', at('hf'), '--out', at('again'));
  t.is(refused.code, 1);
  t.is(refused.json.error.code, 'SLUICE_E_OUTPUT_EXISTS');
});

test.serial('logits of a directory and of the checkpoint from it are those of PyTorch', async (t) => {
  const directory = temporaryDirectory(t);
  const { ids, shape, logits } = await expectedOf('gated-headwise');
  const [rows, length] = shape;
  const list = Array.from({ length: rows }, (_, row) => [
    ...ids.subarray(row * (length + 1), (row + 1) * (length + 1) - 1),
  ]);
  writeFileSync(join(directory, 'ids.json'), JSON.stringify(list));
  await sluice('import', fixture('gated-headwise'), '--out', join(directory, 'checkpoint'));
  for (const source of [fixture('gated-headwise'), join(directory, 'checkpoint')]) {
    const out = join(directory, 'logits.json');
    const { code, json } = await sluice('logits', source, '--ids', join(directory, 'ids.json'), '--out', out);
    t.is(code, 0);
    t.deepEqual(json.shape, [rows, length, 96]);
    const written = JSON.parse(readFileSync(out, 'utf8'));
    t.deepEqual(written.shape, json.shape);
    t.true(relativeError(Float32Array.from(written.logits.flat(2)), logits) < 1e-5);
  }
});

test.serial('a key that nobody knows is passed over when that is asked for, and recorded', async (t) => {
  const directory = temporaryDirectory(t);
  const [model, out] = [join(directory, 'model'), join(directory, 'checkpoint')];
  cpSync(fixture('gated-none'), model, { recursive: true });
  rmSync(join(model, 'expected.safetensors'));
  const config = JSON.parse(readFileSync(join(model, 'config.json'), 'utf8'));
  writeFileSync(
    join(model, 'config.json'),
    JSON.stringify({ ...config, house_style: 3, attention_dropout: 0.1 }),
  );
  const refused = await sluice('import', model, '--out', out);
  t.is(refused.json.error.code, 'SLUICE_E_HF_UNSUPPORTED');
  t.regex(refused.json.error.message, /house_style 3.*attention_dropout 0\.1/);
  const flags = ['--ignore-config', 'house_style', '--ignore-config', 'attention_dropout'];
  const { json } = await sluice('import', model, '--out', out, ...flags);
  t.deepEqual(json.ignoredKeys, { house_style: 3, attention_dropout: 0.1 });
  const { state } = await readManifest(out);
  t.like(state.imported, { ignoredKeys: json.ignoredKeys });
  const begun = await checkInitialWeights({
    model: json.model,
    optimizer: OptimizerConfig.parse({ learningRate: 1 }),
    initialize: { from: out, missing: 'refuse', optimizer: 'fresh' },
  });
  t.deepEqual(begun!.ignoredKeys, json.ignoredKeys);
  const vain = await sluice('import', model, '--out', join(directory, 'x'), ...flags, '--ignore-config', 'y');
  t.is(vain.json.error.code, 'SLUICE_E_USAGE');
});

const badIds: [string, string, RegExp][] = [
  ['rows of different lengths', '[[1, 2], [3]]', /row 1 has 1 ids, row 0 has 2/],
  ['an id beyond the vocabulary', '[[1, 96]]', /id 1 of row 0 is 96, not a whole number below 96/],
  ['a negative id', '[[-1]]', /-1/],
  ['half an id', '[[1.5]]', /1\.5/],
  ['an id as text', '[["1"]]', /"1"/],
  ['no rows', '[]', /no list of rows/],
  ['a single row without brackets', '[1, 2]', /row 0 is no list/],
  ['an empty row', '[[]]', /row 0 is no list/],
  ['no JSON', '[[1,', /not JSON/],
];
for (const [what, text, message] of badIds) {
  test.serial(`a file of token ids with ${what} is refused`, async (t) => {
    const ids = join(temporaryDirectory(t), 'ids.json');
    writeFileSync(ids, text);
    const { code, json } = await sluice('logits', fixture('gated-none'), '--ids', ids, '--out', `${ids}.out`);
    t.is(code, 1);
    t.is(json.error.code, 'SLUICE_E_TOKEN_IDS_INVALID');
    t.regex(json.error.message, message);
  });
}

test.serial('a place where logits cannot be written is told', async (t) => {
  const directory = temporaryDirectory(t);
  const ids = join(directory, 'ids.json');
  writeFileSync(ids, '[[1]]');
  const { code, json } = await sluice('logits', fixture('gated-none'), '--ids', ids, '--out', directory);
  t.is(code, 1);
  t.is(json.error.code, 'SLUICE_E_FILE_UNWRITABLE');
  const nowhere = join(directory, 'nowhere', 'logits.json');
  const missing = await sluice('logits', fixture('gated-none'), '--ids', ids, '--out', nowhere);
  t.is(missing.json.error.code, 'SLUICE_E_FILE_MISSING');
});

test.serial('logits that fail in the middle leave the file that was there', async (t) => {
  const directory = temporaryDirectory(t);
  const path = join(directory, 'logits.json');
  writeFileSync(path, 'before');
  let calls = 0;
  const model = {
    decoder: { config: { vocabularySize: 2 } },
    logits(row: Int32Array) {
      if (++calls === 2) throw new Error('out of memory');
      return new Float32Array(2 * row.length);
    },
  } as unknown as InferenceModel;
  const rows = [Int32Array.of(0, 1), Int32Array.of(1, 0)];
  await t.throwsAsync(writeLogits(path, model, rows), { message: 'out of memory' });
  t.deepEqual(readdirSync(directory), ['logits.json']);
  t.is(readFileSync(path, 'utf8'), 'before');
});

test.serial('generate and evaluate work on a Hugging Face directory, with its tokenizer', async (t) => {
  const text = join(temporaryDirectory(t), 'text.txt');
  writeFileSync(text, 'def main():\n    return 1\n'.repeat(10));
  const generated = await sluice('generate', fixture('qwen3'), '--prompt', 'def', '--max-tokens', '8');
  t.is(generated.code, 0);
  t.true(generated.json.tokens <= 8);
  const evaluated = await sluice('evaluate', fixture('qwen3'), '--text', text, '--sequence-length', '16');
  t.is(evaluated.code, 0);
  t.is(evaluated.json.perplexity, Math.exp(evaluated.json.loss));
  const set = ['--set', 'model.ropeScaling.kind=linear', 'model.ropeScaling.factor=2'];
  const stretched = await sluice('evaluate', fixture('qwen3'), '--text', text, ...set);
  t.is(stretched.code, 0);
  t.not(stretched.json.loss, evaluated.json.loss);
  const nothing = await sluice('evaluate', fixture('qwen3'));
  t.is(nothing.json.error.code, 'SLUICE_E_DATA_UNKNOWN');
});

test('the choices of export are those that the packages know', (t) => {
  t.deepEqual(exportCommand.options.dtype!.choices, Object.keys(EXPORT_TYPES));
  t.deepEqual(exportCommand.options.layout!.choices, [...HUGGING_FACE_LAYOUTS]);
});
