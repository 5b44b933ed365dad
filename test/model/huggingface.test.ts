import { SluiceError } from '@sluice/core';
import {
  countParameters,
  defaultLayout,
  exportModelConfig,
  familyOf,
  HUGGING_FACE_LAYOUTS,
  type HuggingFaceLayout,
  huggingFaceTensors,
  importModelConfig,
  ModelConfig,
  modelTensors,
} from '@sluice/model';
import test from 'ava';
import fc from 'fast-check';

const sizes = {
  vocabularySize: 64,
  hiddenSize: 16,
  numLayers: 2,
  numAttentionHeads: 4,
  numKeyValueHeads: 2,
  headDim: 8,
};
const experts = { count: 4, topK: 2, intermediateSize: 8 };
const parse = (keys: object) => ModelConfig.parse({ ...sizes, ...keys });
const dense = (keys: object = {}) => parse({ intermediateSize: 24, ...keys });
const plain = { gate: { granularity: 'none' } };

const options = (layout: HuggingFaceLayout) => ({ layout, maxLength: 128, torchDtype: 'float32' });
const roundTrip = (model: ModelConfig, layout: HuggingFaceLayout) =>
  importModelConfig(exportModelConfig(model, options(layout)), 'config.json');

/** The reasons of a refusal. */
function refusal(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof SluiceError && error.code === 'SLUICE_E_HF_UNSUPPORTED') return error.message;
    throw error;
  }
  return '';
}

test('what a layout can say comes back as it was', (t) => {
  const ropeScaling = fc.option(
    fc.oneof(
      fc.record({ kind: fc.constant('linear'), factor: fc.integer({ min: 1, max: 9 }) }),
      fc.record(
        {
          kind: fc.constant('yarn'),
          factor: fc.integer({ min: 1, max: 9 }),
          originalLength: fc.integer({ min: 1, max: 9999 }),
          betaFast: fc.integer({ min: 8, max: 64 }),
          attentionFactor: fc.double({ min: 0.5, max: 2, noNaN: true }),
        },
        { requiredKeys: ['kind', 'factor', 'originalLength'] },
      ),
    ),
    { nil: undefined },
  );
  const common = fc.record({
    ropeTheta: fc.constantFrom(1e4, 1e6, 12345.5),
    ropeScaling,
    rmsNormEps: fc.constantFrom(1e-5, 1e-6),
    tieWordEmbeddings: fc.boolean(),
    headDim: fc.constantFrom(4, 8, 64),
  });
  const gate = fc.constantFrom('none', 'elementwise', 'headwise');
  fc.assert(
    fc.property(common, gate, fc.boolean(), fc.boolean(), (shared, granularity, qkNorm, normalizeTopK) => {
      const { ropeScaling: scaling, ...others } = shared;
      const keys = scaling ? { ...others, ropeScaling: scaling } : others;
      const gated = dense({ ...keys, gate: { granularity }, qkNorm });
      const read = roundTrip(gated, 'gated');
      t.deepEqual(read, { model: gated, layout: 'gated', maxLength: 128, ignoredKeys: {}, notes: [] });
      const qwen3 = dense({ ...keys, ...plain });
      t.deepEqual(roundTrip(qwen3, 'qwen3').model, qwen3);
      const moe = parse({ ...keys, ...plain, experts: { ...experts, normalizeTopK, zCoefficient: 0 } });
      t.deepEqual(roundTrip(moe, 'qwen3-moe').model, moe);
    }),
    { numRuns: 60 },
  );
});

test('the default layout says all of the model', (t) => {
  t.is(defaultLayout(dense()), 'gated');
  t.is(defaultLayout(dense({ gate: { granularity: 'headwise' } })), 'gated');
  t.is(defaultLayout(dense(plain)), 'qwen3');
  t.is(defaultLayout(dense({ ...plain, qkNorm: false })), 'gated');
  t.is(defaultLayout(parse({ ...plain, experts })), 'qwen3-moe');
  t.is(defaultLayout(parse({ experts })), 'qwen3-next');
  t.is(defaultLayout(parse({ experts, gate: { granularity: 'headwise' } })), 'qwen3-next');
  // Of what none can say, the nearest.
  t.is(defaultLayout(parse({ experts, qkNorm: false })), 'qwen3-next');
});

const refusedExports: [string, () => ModelConfig, HuggingFaceLayout, RegExp][] = [
  ['a gate in qwen3', () => dense(), 'qwen3', /elementwise gate after attention \(use the layout gated\)/],
  ['a gate and experts', () => parse({ experts }), 'qwen3-moe', /use the layout qwen3-next/],
  [
    'experts in a dense layout',
    () => parse({ experts, ...plain }),
    'qwen3',
    /mixture of experts \(use .*qwen3-moe/,
  ],
  ['a dense model in qwen3-moe', () => dense(plain), 'qwen3-moe-fused', /dense feed-forward/],
  ['a QK norm of all heads', () => dense({ qkNorm: 'all-heads' }), 'gated', /model\.qkNorm = "all-heads"/],
  ['no QK norm in qwen3', () => dense({ ...plain, qkNorm: false }), 'qwen3', /without a norm/],
  [
    'a shared expert',
    () => parse({ ...plain, experts: { ...experts, sharedIntermediateSize: 8 } }),
    'qwen3-moe',
    /a shared expert/,
  ],
  [
    'a cap of the logits',
    () => dense({ ...plain, controls: [{ kind: 'softcap', logits: 30 }] }),
    'qwen3',
    /model\.controls = \[\{"kind":"softcap","logits":30\}\]/,
  ],
  [
    'a sigmoid router with scaled weights',
    () => parse({ ...plain, experts: { ...experts, router: 'sigmoid', scalingFactor: 2.5 } }),
    'qwen3-moe',
    /experts\.router = "sigmoid"; model\.experts\.scalingFactor = 2\.5/,
  ],
  [
    'a bias that balances experts',
    () => parse({ ...plain, experts: { ...experts, balanceBias: {} } }),
    'qwen3-moe',
    /experts\.balanceBias/,
  ],
  [
    'a gate that the paper did not release',
    () => dense({ gate: { granularity: 'elementwise', position: 'value' } }),
    'gated',
    /gate/,
  ],
];
for (const [what, model, layout, reason] of refusedExports) {
  test(`${what} is refused, with the reason`, (t) => {
    t.regex(
      refusal(() => exportModelConfig(model(), options(layout))),
      reason,
    );
  });
}

const moeKeys = { num_experts: 4, num_experts_per_tok: 2, moe_intermediate_size: 8 };
const refusedImports: [string, object, RegExp][] = [
  ['another architecture', { model_type: 'llama' }, /model type "llama" \(known: qwen3, qwen3_moe/],
  ['qwen2 without the gate’s keys', { model_type: 'qwen2' }, /model type "qwen2"/],
  ['biases', { attention_bias: true }, /biases of the projections \(attention_bias true\)/],
  [
    'biases of the gated layout',
    { headwise_attn_output_gate: true, qkv_bias: true },
    /biases .*\(qkv_bias true\)/,
  ],
  ['a sliding window', { use_sliding_window: true }, /sliding window/],
  [
    'layers of a sliding window',
    { layer_types: ['full_attention', 'sliding_attention'] },
    /sliding_attention/,
  ],
  ['another activation', { hidden_act: 'gelu' }, /another activation than silu \(hidden_act "gelu"\)/],
  ['an unknown rotary embedding', { rope_scaling: { rope_type: 'longrope', factor: 2 } }, /"longrope"/],
  ['YaRN between indices', { rope_scaling: { rope_type: 'yarn', factor: 2, truncate: false } }, /truncate/],
  ['part of a head rotated', { partial_rotary_factor: 0.25 }, /partial_rotary_factor 0.25/],
  ['quantised weights', { quantization_config: { bits: 4 } }, /quantised/],
  [
    'experts in some layers',
    { model_type: 'qwen3_moe', ...moeKeys, decoder_sparse_step: 2 },
    /decoder_sparse_step 2/,
  ],
  [
    'layers without experts',
    { model_type: 'qwen3_moe', ...moeKeys, mlp_only_layers: [0] },
    /mlp_only_layers \[0\]/,
  ],
  ['heads that do not divide', { num_key_value_heads: 3 }, /3 key-value heads do not divide 4 query heads/],
];
const config = { ...exportModelConfig(dense(plain), options('qwen3')) };
for (const [what, keys, reason] of refusedImports) {
  test(`a model with ${what} is not imported, for that reason`, (t) => {
    t.regex(
      refusal(() => importModelConfig({ ...config, ...keys }, 'config.json')),
      reason,
    );
  });
}

test('all that is wrong is told at once, and a value of the wrong type is another error', (t) => {
  const both = { attention_bias: true, hidden_act: 'gelu' };
  const message = refusal(() => importModelConfig({ ...config, ...both }, 'x/config.json'));
  t.true(message.startsWith('x/config.json asks for '));
  t.regex(message, /for biases of the projections \(attention_bias true\)/);
  t.regex(message, /for another activation than silu \(hidden_act "gelu"\)/);
  const wrong = () => importModelConfig({ ...config, hidden_size: '16' }, 'config.json');
  t.like(t.throws(wrong, { instanceOf: SluiceError }), { code: 'SLUICE_E_HF_CONFIG' });
  t.regex(t.throws(wrong).message, /hidden_size/);
});

test('keys of other versions of transformers mean the same', (t) => {
  const read = (keys: object) => importModelConfig({ ...config, ...keys }, 'config.json').model;
  const { rope_theta: _theta, rope_scaling: _scaling, ...rest } = config as Record<string, unknown>;
  const newer = { rope_parameters: { rope_type: 'linear', rope_theta: 5e5, factor: 3 } };
  const { ropeTheta, ropeScaling } = importModelConfig({ ...rest, ...newer }, 'config.json').model;
  t.is(ropeTheta, 5e5);
  t.deepEqual(ropeScaling, { kind: 'linear', factor: 3 });
  t.deepEqual(read({ rope_scaling: { type: 'linear', factor: 3 } }).ropeScaling, ropeScaling);
  t.is(read({ rope_scaling: { rope_type: 'default' } }).ropeScaling, undefined);
  // Without its own length, YaRN starts from the model's; a zero stands for the default.
  const yarn = { rope_type: 'yarn', factor: 2, beta_fast: 0 };
  t.like(read({ rope_scaling: yarn }).ropeScaling, { originalLength: 128, betaFast: 32, betaSlow: 1 });
  const scaled = read({ rope_scaling: { ...yarn, mscale: 1, mscale_all_dim: 0.5 } }).ropeScaling;
  t.like(scaled, { attentionFactor: (0.1 * Math.log(2) + 1) / (0.05 * Math.log(2) + 1) });
});

test('the number of experts goes by two names', (t) => {
  const { num_experts: count, ...rest } = exportModelConfig(
    parse({ ...plain, experts }),
    options('qwen3-moe'),
  );
  t.is(count, 4);
  const read = (keys: object) => importModelConfig({ ...rest, ...keys }, 'config.json').model.experts!.count;
  t.is(read({ num_local_experts: 4 }), 4);
  t.is(read({}), 128);
});

test('the keys of the released checkpoints describe models of exactly their sizes', (t) => {
  const released = (keys: object) => ({
    architectures: ['Qwen3ForCausalLM'],
    model_type: 'qwen2',
    vocab_size: 152064,
    hidden_size: 2048,
    intermediate_size: 6144,
    num_hidden_layers: 28,
    num_attention_heads: 16,
    num_key_value_heads: 8,
    head_dim: 128,
    tie_word_embeddings: true,
    use_qk_norm: true,
    qkv_bias: false,
    headwise_attn_output_gate: false,
    elementwise_attn_output_gate: false,
    ...keys,
  });
  const sizeOf = (keys: object) =>
    countParameters(importModelConfig(released(keys), 'config.json').model).total;
  t.is(sizeOf({}), 1_720_837_120);
  t.is(sizeOf({ headwise_attn_output_gate: true }), 1_721_754_624);
  t.is(sizeOf({ elementwise_attn_output_gate: true, intermediate_size: 5504 }), 1_728_177_152);
});

test('headwise wins where both gates are asked for, as in the released code', (t) => {
  const gated = { ...config, headwise_attn_output_gate: true, elementwise_attn_output_gate: true };
  const { model } = importModelConfig(gated, 'config.json');
  t.deepEqual(model, dense({ gate: { granularity: 'headwise' } }));
});

test('the tensors of every layout hold each logical tensor once', (t) => {
  // What families have is held by the tests of their fixtures.
  for (const layout of HUGGING_FACE_LAYOUTS.filter((name) => familyOf(name) === undefined)) {
    const model = layout.startsWith('qwen3-moe') ? parse({ ...plain, experts }) : dense();
    const tensors = huggingFaceTensors(model, layout);
    const parts = tensors.flatMap((tensor) => tensor.runs.map(({ name }) => name));
    t.deepEqual(
      parts.sort(),
      modelTensors(model)
        .map(({ name }) => name)
        .sort(),
    );
    for (const { name, shape, runs } of tensors) {
      const elements = runs.reduce((sum, { size }) => sum + size, 0);
      t.is(
        shape.reduce((a, b) => a * b, 1),
        elements,
        name,
      );
    }
  }
  const fused = huggingFaceTensors(parse({ ...plain, experts }), 'qwen3-moe-fused');
  const gateUp = fused.find(({ name }) => name === 'model.layers.1.mlp.experts.gate_up_proj')!;
  t.deepEqual(gateUp.shape, [4, 16, 16]);
  t.deepEqual(
    gateUp.runs.slice(0, 3).map(({ name }) => name.replace('model.layers.1.mlp.experts.', '')),
    ['0.gate_proj.weight', '0.up_proj.weight', '1.gate_proj.weight'],
  );
});
