import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { SluiceError } from '@sluice/core';
import { CONFIG_KEYS, type HuggingFaceLayout, importModelConfig, keyRule } from '@sluice/model';
import test from 'ava';
import { CASES, fixture } from '../fixtures/huggingface/fixtures.ts';

type Config = Record<string, unknown>;

const read = (path: string): Config => JSON.parse(readFileSync(path, 'utf8'));
const written = readdirSync(fixture('configs')).map((name) => join(fixture('configs'), name));
const fixtures = CASES.map((name) => join(fixture(name), 'config.json'));

/** What importing says: the model, or why there is none. */
function importing(config: Config, ignore: string[] = []): string {
  try {
    importModelConfig(config, 'config.json', { ignore });
    return '';
  } catch (error) {
    if (error instanceof SluiceError && /^SLUICE_E_(HF_|USAGE)/.test(error.code)) return error.message;
    throw error;
  }
}

test('every key that transformers or the fixtures write is in the table, and asks for nothing unknown', (t) => {
  t.true(written.length >= 4);
  for (const path of [...written, ...fixtures]) {
    const config = read(path);
    const { layout } = importModelConfig(config, path);
    for (const key of Object.keys(config)) t.truthy(keyRule(key, layout as 'qwen3'), `${key} of ${path}`);
  }
});

test('each key of the table has a rule in each layout', (t) => {
  for (const key of Object.keys(CONFIG_KEYS))
    for (const layout of ['gated', 'qwen3', 'qwen3-moe'] as const) t.truthy(keyRule(key, layout)?.kind, key);
  t.is(keyRule('constructor', 'qwen3'), undefined);
});

const dense = read(join(fixture('qwen3'), 'config.json'));
const moe = read(join(fixture('qwen3-moe'), 'config.json'));
const gated = read(join(fixture('gated-headwise'), 'config.json'));
const BASES: Partial<Record<HuggingFaceLayout, Config>> = { qwen3: dense, 'qwen3-moe': moe, gated };

test('each refused key is refused by its name, and taken where it asks for nothing', (t) => {
  const decidesTheLayout = ['headwise_attn_output_gate', 'elementwise_attn_output_gate', 'model_type'];
  for (const [layout, base] of Object.entries(BASES)) {
    for (const key of Object.keys(CONFIG_KEYS).filter((name) => !decidesTheLayout.includes(name))) {
      const rule = keyRule(key, layout as 'qwen3')!;
      if (rule.kind === 'honoured') continue;
      const odd = importing({ ...base, [key]: 'something' });
      if (rule.kind === 'harmless') {
        t.is(odd, '', `${layout}: ${key}`);
      } else {
        t.true(odd.includes(`${rule.what} (${key} "something"`), `${layout}: ${key}: ${odd}`);
        for (const value of [null, ...rule.unless])
          t.is(importing({ ...base, [key]: value }), '', `${layout}: ${key} ${JSON.stringify(value)}`);
      }
    }
  }
});

test('a key that nobody knows is refused by name, and passed over only when that is asked for', (t) => {
  const strange = { ...dense, depth_gate: { kind: 'x' } };
  const message = importing(strange);
  t.regex(message, /depth_gate \{"kind":"x"\}, a key that Sluice does not know .*--ignore-config depth_gate/);
  const { ignoredKeys, model } = importModelConfig(strange, 'config.json', { ignore: ['depth_gate'] });
  t.deepEqual(ignoredKeys, { depth_gate: { kind: 'x' } });
  t.deepEqual(model, importModelConfig(dense, 'config.json').model);
});

test('what is known to change the model, or is not there, cannot be ignored', (t) => {
  t.regex(importing({ ...dense, attention_bias: true }, ['attention_bias']), /biases of the projections/);
  t.regex(
    importing(dense, ['attention_bias']),
    /nothing to ignore in config\.json by the name attention_bias/,
  );
  t.regex(importing(dense, ['nothing']), /by the name nothing/);
  t.regex(importing({ ...dense, rope_theta: 5 }, ['rope_theta']), /by the name rope_theta/);
  t.is(importing({ ...dense, auto_map: { AutoModel: 'x.Y' } }, ['auto_map']), '');
  t.regex(importing({ ...dense, auto_map: { AutoModel: 'x.Y' } }), /code of its own/);
});

const refused: [string, Config, RegExp][] = [
  ['a gate in another family', { ...gated, model_type: 'llama' }, /"llama" with a gate/],
  ['another class', { ...dense, architectures: ['Qwen3ForSequenceClassification'] }, /another class/],
  ['too few types of layers', { ...dense, layer_types: ['full_attention'] }, /2 layers and the types of 1/],
  ['two numbers of experts', { ...moe, num_local_experts: 8 }, /num_experts 6, num_local_experts 8/],
  ['experts in a dense model', { ...dense, num_experts: 8 }, /experts in a dense model/],
];
for (const [what, config, reason] of refused) {
  test(`a configuration with ${what} is refused`, (t) => t.regex(importing(config), reason));
}

const rope = (keys: Config): Config => {
  const { rope_theta: _theta, rope_scaling: _scaling, ...rest } = dense;
  return { ...rest, ...keys };
};

const refusedRope: [string, Config, RegExp][] = [
  ['no factor', { rope_scaling: { rope_type: 'linear' } }, /without a factor \(rope_scaling\.factor\)/],
  ['no factor of YaRN', { rope_parameters: { rope_type: 'yarn' } }, /yarn without a factor/],
  ['a factor as text', { rope_scaling: { type: 'linear', factor: '4' } }, /rope_scaling\.factor: /],
  ['a factor below 1', { rope_scaling: { type: 'linear', factor: 0.5 } }, /rope_scaling\.factor: /],
  ['a scaling that is a list', { rope_scaling: [4] }, /rope_scaling: /],
  ['a scaling that is text', { rope_parameters: 'yarn' }, /rope_parameters: /],
  ['a factor without a type', { rope_scaling: { factor: 4 } }, /of no type/],
  ['two types', { rope_scaling: { type: 'linear', rope_type: 'yarn', factor: 2 } }, /two types/],
  [
    'parameters by type of layer',
    { rope_parameters: { full_attention: { rope_type: 'default' } } },
    /differ between layers \(rope_parameters\.full_attention\)/,
  ],
  [
    'part of a head rotated',
    { rope_parameters: { rope_type: 'default', partial_rotary_factor: 0.5 } },
    /rope_parameters\.partial_rotary_factor 0\.5/,
  ],
  [
    'two scalings',
    {
      rope_scaling: { rope_type: 'linear', factor: 2 },
      rope_parameters: { rope_type: 'linear', factor: 3 },
    },
    /two rotary embeddings/,
  ],
  ['two bases', { rope_theta: 1e4, rope_parameters: { rope_theta: 1e6 } }, /several bases/],
  ['keys of another kind', { rope_scaling: { rope_type: 'linear', factor: 2, beta_fast: 3 } }, /beta_fast 3/],
  ['sections', { rope_scaling: { type: 'mrope', mrope_section: [1, 2, 1] } }, /"mrope"/],
  ['sections of none', { rope_scaling: { rope_type: 'default', mrope_section: [1] } }, /mrope_section \[1\]/],
  ['frequencies of Llama 3', { rope_scaling: { rope_type: 'llama3', factor: 8 } }, /"llama3"/],
  ['scaling by length', { rope_scaling: { rope_type: 'dynamic', factor: 8 } }, /"dynamic"/],
];
for (const [what, keys, reason] of refusedRope) {
  test(`a rotary embedding with ${what} is refused`, (t) => t.regex(importing(rope(keys)), reason));
}

test('ways to write one rotary embedding mean the same', (t) => {
  const of = (keys: Config) => {
    const { ropeTheta, ropeScaling } = importModelConfig(rope(keys), 'config.json').model;
    return { ropeTheta, ropeScaling };
  };
  const plain = { ropeTheta: 10000, ropeScaling: undefined };
  const linear = { ropeTheta: 5e5, ropeScaling: { kind: 'linear' as const, factor: 2 } };
  for (const keys of [
    {},
    { rope_theta: null },
    { rope_scaling: {}, rope_theta: 10000 },
    { rope_scaling: { type: 'default' }, rope_parameters: null },
    { rope_parameters: { rope_type: 'default', partial_rotary_factor: 1, factor: null } },
  ])
    t.deepEqual(of(keys), plain, JSON.stringify(keys));
  for (const keys of [
    { rope_theta: 5e5, rope_scaling: { type: 'linear', factor: 2 } },
    { rope_parameters: { rope_theta: 5e5, rope_type: 'linear', factor: 2 } },
    {
      rope_theta: 5e5,
      rope_scaling: { rope_type: 'linear', type: 'linear', factor: 2 },
      rope_parameters: { rope_theta: 5e5, rope_type: 'linear', factor: 2 },
    },
  ])
    t.deepEqual(of(keys), linear, JSON.stringify(keys));
});

test('a key within the rotary embedding is ignored by its whole name', (t) => {
  const config = rope({ rope_scaling: { rope_type: 'linear', factor: 2, finetuned: true } });
  t.regex(importing(config), /--ignore-config rope_scaling\.finetuned/);
  const { ignoredKeys } = importModelConfig(config, 'config.json', { ignore: ['rope_scaling.finetuned'] });
  t.deepEqual(ignoredKeys, { 'rope_scaling.finetuned': true });
});
