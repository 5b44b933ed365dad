import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { SluiceError } from '@sluice/core';
import {
  adaptationNotes,
  defaultLayout,
  exportModelConfig,
  familyOf,
  huggingFaceTensors,
  importModelConfig,
  keyRule,
  layerKinds,
  layerModels,
  ModelConfig,
} from '@sluice/model';
import test from 'ava';
import fc from 'fast-check';
import { patternOf } from '../../packages/model/src/huggingface/families/kinds.ts';
import { FAMILY_CASES, fixture } from '../fixtures/huggingface/fixtures.ts';

type Config = Record<string, unknown>;

const read = (name: string): Config => JSON.parse(readFileSync(join(fixture(name), 'config.json'), 'utf8'));

test('a list of kinds is said by a pattern and what comes before it', (t) => {
  const of = (names: string) => patternOf(names.split(''));
  t.deepEqual(of('aaaa'), { pattern: ['a'] });
  t.deepEqual(of('aaabaaab'), { pattern: ['a', 'a', 'a', 'b'] });
  t.deepEqual(of('aaabaaabaa'), { pattern: ['a', 'a', 'a', 'b'] });
  t.deepEqual(of('ccabaaabaaab'), { pattern: ['a', 'a', 'a', 'b'], first: ['c', 'c'] });
  t.deepEqual(of('cababab'), { pattern: ['b', 'a'], first: ['c'] });
  t.deepEqual(of('daabaaabaab'), { pattern: ['a', 'a', 'a', 'b'], first: ['d'], last: ['b'] });
  fc.assert(
    fc.property(fc.array(fc.constantFrom('a', 'b', 'c'), { minLength: 1, maxLength: 20 }), (names) => {
      const kinds = { a: {}, b: {}, c: {} };
      t.deepEqual(layerKinds({ numLayers: names.length, layers: { kinds, ...patternOf(names) } }), names);
    }),
  );
});

/** A gated mixture of experts of ours. */
const gated = (keys: object = {}) =>
  ModelConfig.parse({
    ...{ vocabularySize: 32, hiddenSize: 16, numLayers: 2, numAttentionHeads: 4, numKeyValueHeads: 2 },
    ...{ headDim: 8, experts: { count: 4, topK: 2, intermediateSize: 6 } },
    ...keys,
  });

const written = (model: ModelConfig) =>
  exportModelConfig(model, { layout: 'qwen3-next', maxLength: 64, torchDtype: 'float32' });

test('a gated mixture of experts is said in the layout of Qwen3-Next, with a shared expert of zeros', (t) => {
  const config = written(gated());
  t.is(config.shared_expert_intermediate_size, 1);
  t.deepEqual(config.layer_types, ['full_attention', 'full_attention']);
  t.deepEqual(config.mlp_only_layers, []);
  t.is(adaptationNotes(gated(), 'qwen3-next').length, 2);
  const tensors = new Map(huggingFaceTensors(gated(), 'qwen3-next').map((tensor) => [tensor.name, tensor]));
  t.is(tensors.get('model.layers.1.mlp.shared_expert.up_proj.weight')!.constant, 0);
  t.deepEqual(tensors.get('model.layers.0.mlp.shared_expert_gate.weight')!.shape, [1, 16]);
  for (const [name, { shift }] of tensors) t.is(shift, name.includes('norm') ? -1 : undefined, name);
  // And these are the tensors that the configuration asks for.
  const again = importModelConfig(config, 'config.json').model;
  t.deepEqual(
    huggingFaceTensors(again, 'qwen3-next')
      .map(({ name, shape }) => `${name} ${shape}`)
      .sort(),
    [...tensors.values()].map(({ name, shape }) => `${name} ${shape}`).sort(),
  );
});

test('a headwise gate is written once for each channel, and a shared expert without a gate twice as large', (t) => {
  const experts = { count: 4, topK: 2, intermediateSize: 6, sharedIntermediateSize: 5 };
  const model = gated({ gate: { granularity: 'headwise' }, experts });
  const tensors = new Map(huggingFaceTensors(model, 'qwen3-next').map((tensor) => [tensor.name, tensor]));
  const query = tensors.get('model.layers.0.self_attn.q_proj.weight')!;
  t.deepEqual(query.shape, [64, 16]);
  // Queries of the first head, then its gate's only row eight times.
  t.deepEqual(query.runs[0], { name: query.name, begin: 0, size: 8 * 16 });
  for (const run of query.runs.slice(1, 9)) t.deepEqual(run, { name: query.name, begin: 16 * 16, size: 16 });
  t.is(tensors.get('model.layers.0.mlp.shared_expert.down_proj.weight')!.factor, 2);
  t.is(tensors.get('model.layers.0.mlp.shared_expert_gate.weight')!.constant, 0);
  t.deepEqual(importModelConfig(written(model), 'config.json').model.gates[0]!.granularity, 'elementwise');
});

test('where the norms of layers alone multiply by 1 + w, the last one is shifted alone', (t) => {
  const model = gated({ zeroCentredNorms: 'layers', gate: { granularity: 'headwise' } });
  const shifted = huggingFaceTensors(model, 'qwen3-next').filter(({ shift }) => shift !== undefined);
  t.deepEqual(
    shifted.map(({ name, shift }) => [name, shift]),
    [['model.norm.weight', -1]],
  );
  t.regex(adaptationNotes(model, 'qwen3-next')[0]!, /^the gains w of the last norm as w − 1/);
});

test('what the layout cannot say, adapted or not, is refused by name', (t) => {
  t.throws(() => written(gated({ qkNorm: false })), { message: /model.qkNorm = false/ });
  t.throws(() => written(gated({ gates: [] })), { message: /model.gates = \[\]/ });
  t.throws(() => written(gated({ ropeScaling: { kind: 'llama3', factor: 2, originalLength: 8 } })), {
    message: /rotary embedding of type "llama3"/,
  });
});

test('a model within one that sees too is taken, and what is left out is named', (t) => {
  const text = read('qwen3.5');
  const { model, layout, notes } = importModelConfig(
    { model_type: 'qwen3_5', tie_word_embeddings: true, vision_config: { depth: 2 }, text_config: text },
    'config.json',
  );
  t.is(layout, 'qwen3.5');
  t.deepEqual(model, importModelConfig(text, 'config.json').model);
  t.regex(notes.join(), /qwen3_5.*left out: vision_config/);
});

test('linear and full layers are said by a pattern, and have the sizes that config.json gives', (t) => {
  const { model } = importModelConfig(read('qwen3-next'), 'config.json');
  t.deepEqual(model.layers!.pattern, ['linear', 'linear-dense', 'full']);
  const sizes = { keyHeads: 2, valueHeads: 4, keyDim: 4, valueDim: 6, taps: 4 };
  t.like(layerModels(model)[1]!, { mixer: { kind: 'gated-delta-net', ...sizes } });
  const listed = read('qwen3.5');
  const counted = { ...listed, layer_types: null, full_attention_interval: 3 };
  t.deepEqual(
    importModelConfig(counted, 'config.json').model,
    importModelConfig(listed, 'config.json').model,
  );
});

test('experts of Qwen3.5 lie in two tensors, or each matrix in its own', (t) => {
  const { model } = importModelConfig(read('qwen3.5-moe'), 'config.json');
  const namesOf = (layout: 'qwen3.5-moe' | 'qwen3.5-moe-per-expert') =>
    huggingFaceTensors(model, layout)
      .map(({ name, shape }) => `${name} ${shape}`)
      .filter((name) => name.includes('layers.1.mlp.experts'));
  t.deepEqual(namesOf('qwen3.5-moe'), [
    'model.layers.1.mlp.experts.gate_up_proj 4,12,16',
    'model.layers.1.mlp.experts.down_proj 4,16,6',
  ]);
  t.is(namesOf('qwen3.5-moe-per-expert').length, 4 * 3);
});

test('a hybrid of ours is said in the layout of Qwen3.5, and another mixer in none', (t) => {
  const mixer = { kind: 'gated-delta-net', keyHeads: 1, valueHeads: 2, keyDim: 4, valueDim: 4 };
  const hybrid = (keys: object = {}) =>
    ModelConfig.parse({
      ...{ vocabularySize: 32, hiddenSize: 16, numLayers: 4, numAttentionHeads: 4, numKeyValueHeads: 2 },
      ...{ headDim: 8, intermediateSize: 20 },
      layers: {
        kinds: { linear: { mixer: { ...mixer, ...keys } }, full: {} },
        pattern: ['linear', 'linear', 'linear', 'full'],
      },
    });
  t.is(defaultLayout(hybrid()), 'qwen3.5');
  const options = { layout: 'qwen3.5', maxLength: 64, torchDtype: 'float32' } as const;
  t.like(exportModelConfig(hybrid(), options), { linear_num_value_heads: 2, linear_conv_kernel_dim: 4 });
  t.throws(() => exportModelConfig(hybrid({ allowNegativeEigenvalues: true }), options), {
    message: /model.mixer.allowNegativeEigenvalues = true/,
  });
  t.throws(() => exportModelConfig(hybrid(), { ...options, layout: 'gated' }), {
    message: /model.mixer.kind = "gated-delta-net"/,
  });
});

/** Fixtures by their families. */
const FIXTURES = FAMILY_CASES.map((name) => ({ name, config: read(name) }));

const importing = (config: Config): string => {
  try {
    importModelConfig(config, 'config.json');
    return '';
  } catch (error) {
    if (error instanceof SluiceError) return error.message;
    throw error;
  }
};

test('every key that the classes of the families write is known, and a key that nobody knows is refused with its value', (t) => {
  for (const { name, config } of FIXTURES) {
    const { layout } = importModelConfig(config, name);
    for (const key of Object.keys(config)) t.truthy(keyRule(key, layout as 'afmoe'), `${key} of ${name}`);
    t.regex(importing({ ...config, depth_gate: 3 }), /depth_gate 3, a key that Sluice does not know/, name);
  }
});

test('each key that a family refuses is refused with its value, and taken where it asks for nothing', (t) => {
  for (const { name, config } of FIXTURES) {
    const { layout } = importModelConfig(config, name);
    for (const [key, rule] of Object.entries(familyOf(layout)!.keys)) {
      if (rule.kind !== 'refused') continue;
      const odd = { rope_theta: 0.5, partial_rotary_factor: 0.5, rope_scaling: {} }[key] ?? 'something';
      const message = importing({ ...config, [key]: odd });
      t.true(message.includes(`${rule.what} (${key} ${JSON.stringify(odd)}`), `${name}: ${key}: ${message}`);
      for (const value of rule.unless) t.is(importing({ ...config, [key]: value }), '', `${name}: ${key}`);
    }
  }
});

test('a family of experts whose layers are all dense is read and said again', (t) => {
  const config = read('afmoe');
  const all = { ...config, num_dense_layers: config.num_hidden_layers };
  const { model } = importModelConfig(all, 'config.json');
  t.true(layerModels(model).every(({ experts }) => experts === undefined));
  const options = { layout: 'afmoe', maxLength: 64, torchDtype: 'float32' } as const;
  t.is(exportModelConfig(model, options).num_dense_layers, config.num_hidden_layers);
});

test('a cap of the router’s logits is read, and written again', (t) => {
  const config = { ...read('laguna'), moe_router_logit_softcapping: 30 };
  const { model } = importModelConfig(config, 'config.json');
  t.is(model.experts!.logitCap, 30);
  const options = { layout: 'laguna', maxLength: 64, torchDtype: 'float32' } as const;
  t.is(exportModelConfig(model, options).moe_router_logit_softcapping, 30);
  t.throws(() => exportModelConfig(model, { ...options, layout: 'qwen3-next' }), {
    message: /logitCap = 30/,
  });
});

test('a configuration of Kimi-Linear is read as it was released, and written so', (t) => {
  const kimi: Config = {
    ...{ model_type: 'kimi_linear', num_hidden_layers: 6, first_k_dense_replace: 2, mla_use_nope: true },
    linear_attn_config: {
      ...{ head_dim: 16, num_heads: 2, short_conv_kernel_size: 3 },
      ...{ kda_layers: [1, 2, 3, 5], full_attn_layers: [4, 6] },
    },
    ...{ q_lora_rank: null, num_expert_group: 8, topk_group: 4, use_grouped_topk: true, rope_theta: 10000 },
  };
  const { model, maxLength } = importModelConfig(kimi, 'config.json');
  t.is(maxLength, 1048576);
  t.like(model.layers!, { first: ['linear-dense', 'linear-dense'] });
  t.deepEqual(
    layerModels(model).map(({ mixer, experts }) => `${mixer?.kind ?? 'latent'} ${experts?.groups?.count}`),
    [
      ...Array(2).fill('kimi-delta-attention undefined'),
      ...['kimi-delta-attention 8', 'latent 8', 'kimi-delta-attention 8', 'latent 8'],
    ],
  );
  const options = { layout: 'kimi-linear', maxLength, torchDtype: 'float32' } as const;
  t.like(exportModelConfig(model, options), {
    linear_attn_config: kimi.linear_attn_config,
    ...{ first_k_dense_replace: 2, num_expert_group: 8, topk_group: 4, v_head_dim: 128 },
  });
  t.is(defaultLayout(model), 'kimi-linear');
  for (const [change, message] of [
    [{ q_lora_rank: 16 }, /queries that are made of a latent \(q_lora_rank 16/],
    [{ mla_use_nope: false }, /a rotary embedding \(mla_use_nope false/],
    [{ num_key_value_heads: 8 }, /num_attention_heads 32, num_key_value_heads 8/],
    [{ moe_router_activation_func: 'softmax' }, /moe_router_activation_func "softmax"/],
    [{ num_experts: 8, num_local_experts: 16 }, /num_experts 8, num_local_experts 16/],
    [{ topk_group: 9 }, /topK 9 is more than the 8 groups/],
    [{ num_hidden_layers: 7 }, /of no kind or of two/],
    [{ linear_attn_config: { gate_lower_bound: -5 } }, /gate_lower_bound/],
  ] as const)
    t.regex(importing({ ...kimi, ...change }), message);
});

const refused: [string, Config, RegExp][] = [
  [
    'qwen3.5',
    { layer_types: ['linear_attention', 'sparse_attention', 'full_attention'] },
    /type sparse_attention/,
  ],
  ['qwen3.5', { layer_types: ['full_attention'] }, /3 layers and 1 items of layer_types/],
  ['qwen3.5', { partial_rotary_factor: 0.25 }, /two shares of a head .* 0\.25 and 0\.5/],
  ['qwen3.5', { rope_parameters: { rope_theta: 1e4, rope_type: 'longrope', factor: 2 } }, /type "longrope"/],
  ['qwen3.5-moe', { norm_topk_prob: false }, /norm_topk_prob false/],
  ['afmoe', { score_func: 'softmax' }, /score_func "softmax"/],
  ['afmoe', { n_group: 2 }, /groups of experts \(n_group 2/],
  ['laguna', { rope_parameters: { chunked_attention: {} } }, /rope_parameters\.chunked_attention/],
  ['laguna', { mlp_layer_types: ['dense'] }, /3 layers and 1 items of mlp_layer_types/],
  ['step3.5', { per_layer_config: { 0: { num_attention_heads: 6 } } }, /per_layer_config\.0/],
  ['step3.5', { query_pre_attn_scalar: 16 }, /query_pre_attn_scalar 16, head_dim 8/],
  ['step3.5', { moe_num_experts: 8 }, /n_routed_experts 4, moe_num_experts 8/],
  ['lfm3', { rope_theta: 5 }, /outside of rope_parameters \(rope_theta 5/],
  ['muse-glimmer', { layer_rope_theta: [1, 2] }, /4 layers and 2 items of layer_rope_theta/],
];

for (const [name, change, message] of refused) {
  test(`${name} with ${Object.keys(change)} ${JSON.stringify(Object.values(change))} is refused`, (t) => {
    t.regex(importing({ ...read(name), ...change }), message);
  });
}

const EXPORTED = { maxLength: 64, torchDtype: 'float32' } as const;

test('nothing is rotated in an Olmo-Hybrid whose base is null, and by the usual base where none is given', (t) => {
  const { rope_parameters: _, ...config } = read('olmo-hybrid');
  const ropeOf = (keys: Config) => {
    const { model } = importModelConfig({ ...config, ...keys }, 'config.json');
    const { positions = 'rotary', ropeTheta, ropeScaling } = layerModels(model)[1]!;
    return [positions, ropeTheta, ropeScaling?.kind];
  };
  const linear = { rope_type: 'linear', factor: 2 };
  t.deepEqual(ropeOf({}), ['rotary', 10000, undefined]);
  t.deepEqual(ropeOf({ rope_parameters: null }), ['rotary', 10000, undefined]);
  t.deepEqual(ropeOf({ rope_scaling: linear }), ['rotary', 10000, 'linear']);
  t.deepEqual(ropeOf({ rope_theta: null, rope_parameters: { ...linear, rope_theta: 5 } }), [
    'rotary',
    5,
    'linear',
  ]);
  const nulls = [{ rope_theta: null }, { rope_parameters: { rope_type: 'default', rope_theta: null } }];
  for (const keys of nulls) t.is(ropeOf(keys)[0], 'none');
  const { model } = importModelConfig({ ...config, rope_theta: null }, 'config.json');
  t.like(exportModelConfig(model, { ...EXPORTED, layout: 'olmo-hybrid' }), {
    rope_parameters: { rope_theta: null },
  });
});

test('a share of a head is refused in families whose classes would rotate all of it', (t) => {
  for (const name of ['afmoe', 'muse-glimmer', 'olmo-hybrid', 'lfm3'] as const) {
    const config = read(name);
    const parameters = config.rope_parameters as Config;
    const ofType = parameters.sliding_attention as Config | undefined;
    const withShare = (share: number) =>
      importing({
        ...config,
        rope_parameters: ofType
          ? { ...parameters, sliding_attention: { ...ofType, partial_rotary_factor: share } }
          : { ...parameters, partial_rotary_factor: share },
      });
    t.is(withShare(1), '', name);
    t.regex(withShare(0.5), /part of a head \(rope_parameters\.\S*partial_rotary_factor 0\.5\)/, name);
  }
});

test('bases of layers of Muse-Glimmer other than the one that all are rotated by are refused', (t) => {
  const config = { ...read('muse-glimmer'), layer_rope_theta: [500000, 0, 0, 500000] };
  const { model } = importModelConfig(config, 'config.json');
  t.deepEqual(
    layerModels(model).map(({ positions }) => positions),
    [undefined, 'none', 'none', undefined],
  );
  t.regex(
    importing({ ...config, layer_rope_theta: [500000, 0, 0, 10000] }),
    /several bases .*layer_rope_theta 10000, rope_theta 500000/,
  );
});

test('rotary embeddings that do not describe all types of attention layers, or something else, are refused', (t) => {
  for (const name of ['laguna', 'lfm3', 'step3.5'] as const) {
    const config = read(name);
    const { sliding_attention, full_attention } = config.rope_parameters as Config;
    const judged = (rope_parameters: object) => importing({ ...config, rope_parameters });
    t.is(judged({ sliding_attention, full_attention }), '', name);
    const missing = /not described \(rope_parameters\.sliding_attention\)/;
    t.regex(judged({ full_attention }), missing, name);
    for (const other of [null, 'default', 3, []])
      t.regex(judged({ full_attention, sliding_attention: other }), missing, name);
    t.regex(judged({ rope_theta: 500000 }), /of no type of layers \(rope_parameters\.rope_theta\)/, name);
  }
});

test('an epsilon of LFM3 goes by two names, and two of them are refused', (t) => {
  const { norm_eps: _, ...config } = read('lfm3');
  for (const key of ['norm_eps', 'rms_norm_eps'])
    t.is(importModelConfig({ ...config, [key]: 0.25 }, 'config.json').model.rmsNormEps, 0.25);
  t.regex(importing({ ...config, norm_eps: 0.25, rms_norm_eps: 0.5 }), /norm_eps 0\.25, rms_norm_eps 0\.5/);
});

test('an AFMoE that says nothing of shared experts has the two of its class', (t) => {
  const { num_shared_experts: _, ...config } = read('afmoe');
  t.is(importModelConfig(config, 'config.json').model.experts!.sharedIntermediateSize, 12);
});

test('a head of which more than all would turn is refused', (t) => {
  for (const share of [1.5, 0, -1]) {
    const rope_parameters = { rope_type: 'default', rope_theta: 500, partial_rotary_factor: share };
    t.regex(importing({ ...read('qwen3.5'), rope_parameters }), /rope_parameters\.partial_rotary_factor: /);
  }
});

test('Qwen3-Next is written so that versions 4 of transformers read its rotary embedding too', (t) => {
  const scaling = { rope_type: 'linear', factor: 2 };
  const rope_parameters = { ...scaling, rope_theta: 500, partial_rotary_factor: 0.5 };
  const { model } = importModelConfig({ ...read('qwen3-next'), rope_parameters }, 'config.json');
  const written = exportModelConfig(model, { ...EXPORTED, layout: 'qwen3-next' });
  t.like(written, { rope_theta: 500, partial_rotary_factor: 0.5, rope_scaling: scaling });
  t.false('rope_parameters' in written);
});

test('Kimi-Linear, whose class ties nothing, is neither read nor written tied', (t) => {
  t.regex(importing({ ...read('kimi-linear'), tie_word_embeddings: true }), /tie_word_embeddings true/);
  const { model } = importModelConfig(read('kimi-linear'), 'config.json');
  t.throws(
    () => exportModelConfig({ ...model, tieWordEmbeddings: true }, { ...EXPORTED, layout: 'kimi-linear' }),
    {
      message: /tie_word_embeddings true/,
    },
  );
});

test('layers of a Kimi-Linear that says nothing of them are those of its class', (t) => {
  const { layer_types: _, mlp_layer_types: __, ...config } = read('kimi-linear');
  const { model } = importModelConfig({ ...config, num_hidden_layers: 9 }, 'config.json');
  const full = layerModels(model).flatMap(({ mixer }, layer) => (mixer ? [] : [layer]));
  t.deepEqual(full, [4, 8]);
});

test('an Olmo-Hybrid of layers of one type alone, which its class refuses, is refused', (t) => {
  for (const type of ['full_attention', 'linear_attention'])
    t.regex(importing({ ...read('olmo-hybrid'), layer_types: [type, type] }), /one type alone.*layer_types/);
});

test('a dense layer of Step-3.5 has the limit of its shared expert, which it is written as again', (t) => {
  const limits = { swiglu_limits: [3, 4, null], swiglu_limits_shared: [0.5, 0, 2] };
  const { model } = importModelConfig({ ...read('step3.5'), ...limits }, 'config.json');
  t.deepEqual(
    layerModels(model).map(({ swigluLimit, sharedSwigluLimit }) => [swigluLimit, sharedSwigluLimit]),
    [
      [0.5, undefined],
      [4, undefined],
      [undefined, 2],
    ],
  );
  t.like(exportModelConfig(model, { ...EXPORTED, layout: 'step3.5' }), {
    swiglu_limits: [null, 4, null],
    swiglu_limits_shared: [0.5, null, 2],
  });
});

test('a model of AFMoE whose layers all see all is written, and half a shared expert is refused by its key', (t) => {
  const config = { ...read('afmoe'), layer_types: Array(3).fill('full_attention') };
  const { model } = importModelConfig(config, 'config.json');
  const options = { ...EXPORTED, layout: 'afmoe' } as const;
  t.false('sliding_window' in exportModelConfig(model, options));
  const half = { ...model, experts: { ...model.experts!, sharedIntermediateSize: 3 } };
  t.throws(() => exportModelConfig(half, options), {
    message: /afmoe has no way to say: num_shared_experts:/,
  });
});

test('no family writes a model whose special tokens are those of the released tokenizer', (t) => {
  for (const name of ['lfm3', 'olmo-hybrid', 'muse-glimmer', 'kimi-linear'] as const) {
    const { model } = importModelConfig(read(name), name);
    const written = exportModelConfig(model, { ...EXPORTED, layout: name });
    t.like(written, { bos_token_id: null, eos_token_id: null, pad_token_id: null }, name);
  }
});
