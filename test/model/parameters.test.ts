import { countParameters, flopsPerToken, ModelConfig, modelParameters, modelTensors } from '@sluice/model';
import test from 'ava';

/** The paper's dense model of 28 layers (Table 7) with the vocabulary of the released checkpoints. */
const dense28 = {
  vocabularySize: 152064,
  hiddenSize: 2048,
  numLayers: 28,
  numAttentionHeads: 16,
  numKeyValueHeads: 8,
  headDim: 128,
  intermediateSize: 6144,
  tieWordEmbeddings: true,
};

/** The paper's mixture of experts (Table 7). */
const moe = {
  vocabularySize: 151936,
  hiddenSize: 2048,
  numLayers: 24,
  numAttentionHeads: 32,
  numKeyValueHeads: 4,
  headDim: 128,
  experts: { count: 128, topK: 8, intermediateSize: 768 },
};

const gated = (base: object, granularity: string, more: object = {}) =>
  ModelConfig.parse({ ...base, gate: { granularity }, ...more });

test('the released models have exactly the parameters that were counted in them', (t) => {
  t.is(countParameters(gated(dense28, 'none')).total, 1_720_837_120);
  t.is(countParameters(gated(dense28, 'headwise')).total, 1_721_754_624);
  t.is(countParameters(gated(dense28, 'elementwise', { intermediateSize: 5504 })).total, 1_728_177_152);
});

test('the gate adds what Table 1 of the paper says', (t) => {
  const baseline = countParameters(gated(moe, 'none')).total;
  const added = (granularity: string) => (countParameters(gated(moe, granularity)).total - baseline) / 1e6;
  t.is(Math.round(added('elementwise')), 201);
  t.is(added('headwise').toFixed(1), '1.6');
});

test('a token passes through the chosen experts only', (t) => {
  const { total, active } = countParameters(gated(moe, 'none'));
  t.is(total - active, 24 * (128 - 8) * 3 * 2048 * 768);
});

test('operations a token follow the formula of the benchmark', (t) => {
  const model = ModelConfig.parse({
    vocabularySize: 8192,
    hiddenSize: 256,
    numLayers: 6,
    numAttentionHeads: 8,
    numKeyValueHeads: 4,
    headDim: 32,
    intermediateSize: 704,
  });
  const { active, embedding } = countParameters(model);
  t.is(embedding, 8192 * 256);
  t.is(flopsPerToken(model, 512), 6 * (active - embedding) + 6 * 6 * 512 * 256);
});

test('logical tensors carry the Hugging Face names and the released shapes', (t) => {
  const shapes = new Map(modelTensors(gated(dense28, 'headwise')).map(({ name, shape }) => [name, shape]));
  t.deepEqual(shapes.get('model.layers.27.self_attn.q_proj.weight'), [2064, 2048]);
  t.deepEqual(shapes.get('model.layers.0.self_attn.k_proj.weight'), [1024, 2048]);
  t.deepEqual(shapes.get('model.layers.0.mlp.up_proj.weight'), [6144, 2048]);
  t.deepEqual(shapes.get('model.layers.0.self_attn.k_norm.weight'), [128]);
  t.false(shapes.has('lm_head.weight'));
});

test('the parts of all expert-parallel ranks are the whole model', (t) => {
  const model = gated(moe, 'elementwise', { numLayers: 2 });
  const names = (rank: number, size: number) =>
    modelParameters(model, { rank, size })
      .filter(({ placement }) => placement === 'expert')
      .flatMap(({ tensors }) => tensors.map(({ name }) => name));
  t.deepEqual([0, 1, 2, 3].flatMap((rank) => names(rank, 4)).sort(), names(0, 1).sort());
});

test('the logical tensors of a parameter cover it without gaps', (t) => {
  for (const spec of modelParameters(gated(moe, 'elementwise', { numLayers: 1 }))) {
    let offset = 0;
    for (const tensor of spec.tensors) {
      t.is(tensor.offset, offset);
      offset += tensor.size;
    }
    t.is(offset, spec.size);
  }
});

test('a model is either dense or a mixture of experts', (t) => {
  t.false(ModelConfig.safeParse({ ...dense28, experts: moe.experts }).success);
  t.false(ModelConfig.safeParse({ ...dense28, intermediateSize: undefined }).success);
  t.false(ModelConfig.safeParse({ ...dense28, numKeyValueHeads: 3 }).success);
  t.false(ModelConfig.safeParse({ ...moe, experts: { ...moe.experts, topK: 129 } }).success);
});

test('every parameter is of the group that its part of the model names', (t) => {
  const model = gated(moe, 'elementwise', {
    numLayers: 1,
    tieWordEmbeddings: false,
    experts: { ...moe.experts, sharedIntermediateSize: 768 },
    gate: undefined,
    gates: [{ position: 'value', granularity: 'elementwise' }],
    controls: [{ kind: 'sandwich-norm' }],
  });
  const groups = modelParameters(model).map(
    ({ name, group }) => `${name.replace('model.layers.0.', '')} ${group}`,
  );
  t.deepEqual(groups, [
    'model.embed_tokens.weight embedding',
    'input_layernorm.weight norms',
    'self_attn.qkv_proj.weight attention',
    'self_attn.q_norm.weight norms',
    'self_attn.k_norm.weight norms',
    'self_attn.o_proj.weight attention',
    'self_attn.value_gate.weight gate',
    'self_attn.output_norm.weight norms',
    'mlp.output_norm.weight norms',
    'post_attention_layernorm.weight norms',
    'mlp.gate.weight router',
    'mlp.experts.gate_up_proj.weight experts',
    'mlp.experts.down_proj.weight experts',
    'mlp.shared_expert.gate_up_proj.weight experts',
    'mlp.shared_expert.down_proj.weight experts',
    'model.norm.weight norms',
    'lm_head.weight head',
  ]);
});

test('a bias that balances experts is a tensor of each layer, which the optimizer leaves alone', (t) => {
  const experts = { ...moe.experts, balanceBias: {} };
  const balanced = gated({ ...moe, experts }, 'none');
  const added = modelTensors(balanced).filter(({ isTrained }) => !isTrained);
  t.is(added.length, 24);
  t.like(added[3], { name: 'model.layers.3.mlp.gate.e_score_correction_bias', shape: [128], initial: 0 });
  const [count, before] = [countParameters(balanced), countParameters(gated(moe, 'none'))];
  t.is(count.total - before.total, 24 * 128);
  t.is(count.byPart.router - before.byPart.router, 24 * 128);
});
