import {
  countParameters,
  expertLayers,
  flopsPerToken,
  layerKinds,
  layerModels,
  ModelConfig,
  modelParameters,
  modelTensors,
} from '@sluice/model';
import test from 'ava';
import { tinyModel } from './support.ts';

const EXPERTS = { count: 4, topK: 2, intermediateSize: 6 };

/** Two dense layers, then experts; every fourth layer without positions and with fewer heads. */
const mixed = (keys: object = {}) =>
  tinyModel({
    numLayers: 7,
    experts: EXPERTS,
    layers: {
      kinds: {
        dense: { feedForward: 'dense' },
        near: { ropeTheta: 500 },
        far: { positions: 'none', numAttentionHeads: 2 },
      },
      pattern: ['near', 'near', 'near', 'far'],
      first: ['dense', 'dense'],
    },
    ...keys,
  });

test('a pattern is repeated to the depth, and first and last kinds stand in its place', (t) => {
  const kinds = { a: {}, b: {}, c: {} };
  const of = (numLayers: number, layers: object) =>
    layerKinds({ numLayers, layers: { kinds, pattern: ['a', 'b'], ...layers } });
  t.deepEqual(of(5, {}), ['a', 'b', 'a', 'b', 'a']);
  t.deepEqual(of(5, { first: ['c'], last: ['c', 'c'] }), ['c', 'b', 'a', 'c', 'c']);
  t.deepEqual(of(1, { first: ['b', 'c'], last: ['c', 'a'] }), ['a']);
  t.deepEqual(layerKinds({ numLayers: 3 }), []);
});

test('a layer has what its kind says, and else what the model says', (t) => {
  const layers = layerModels(mixed());
  t.deepEqual(
    layers.map(({ numAttentionHeads, positions, ropeTheta }) => [numAttentionHeads, positions, ropeTheta]),
    [
      ...[4, 4].map((heads) => [heads, undefined, 10000]),
      [4, undefined, 500],
      [2, 'none', 10000],
      ...[4, 4, 4].map((heads) => [heads, undefined, 500]),
    ],
  );
  t.deepEqual(
    layers.map(({ experts, intermediateSize }) => [experts !== undefined, intermediateSize]),
    [[false, 12], [false, 12], ...Array(5).fill([true, undefined])],
  );
  t.deepEqual(expertLayers(mixed()), [2, 3, 4, 5, 6]);
});

test('a model whose only kind changes nothing has the parameters and numbers of one without kinds', (t) => {
  const plain = tinyModel({ numLayers: 2 });
  const layered = tinyModel({ numLayers: 2, layers: { kinds: { all: {} }, pattern: ['all'] } });
  t.deepEqual(modelParameters(layered), modelParameters(plain));
  t.deepEqual(countParameters(layered), countParameters(plain));
  t.is(flopsPerToken(layered, 100), flopsPerToken(plain, 100));
});

test('parameters, active ones and operations are those of each layer', (t) => {
  const model = mixed();
  const shapes = new Map(modelTensors(model).map(({ name, shape }) => [name, shape]));
  t.deepEqual(shapes.get('model.layers.1.mlp.down_proj.weight'), [16, 12]);
  t.deepEqual(shapes.get('model.layers.2.self_attn.q_proj.weight'), [64, 16]);
  t.deepEqual(shapes.get('model.layers.3.self_attn.q_proj.weight'), [32, 16]);
  t.deepEqual(shapes.get('model.layers.3.self_attn.o_proj.weight'), [16, 16]);
  t.false(shapes.has('model.layers.3.mlp.down_proj.weight'));
  const { total, active, byPart, embedding } = countParameters(model);
  t.is(
    total,
    modelTensors(model).reduce((sum, { size }) => sum + size, 0),
  );
  t.is(total - active, 5 * 2 * 3 * 16 * 6);
  t.is(byPart.gate, (6 * 32 + 16) * 16);
  t.is(flopsPerToken(model, 10), 6 * (active - embedding) + 6 * 10 * 8 * (6 * 4 + 2));
});

test('a model of kinds shrinks with its ratios', (t) => {
  const tiny = ModelConfig.parse({
    ...{ vocabularySize: 1000, hiddenSize: 2048, numLayers: 40, numAttentionHeads: 48, numKeyValueHeads: 8 },
    ...{ headDim: 128, intermediateSize: 8192, scale: 'tiny' },
    layers: {
      kinds: { full: { rotaryDim: 64 }, near: { numAttentionHeads: 64, rotaryDim: 128 } },
      pattern: ['full', 'near', 'near', 'near'],
    },
  });
  t.is(tiny.numLayers, 10);
  const [full, near] = layerModels(tiny);
  t.deepEqual([full!.numAttentionHeads, full!.rotaryDim], [12, 8]);
  t.deepEqual([near!.numAttentionHeads, near!.rotaryDim, near!.headDim], [16, 16, 16]);
});

test('a model made smaller is one that can be written down, whatever is left of its kinds and channels', (t) => {
  const base = {
    ...{
      vocabularySize: 9,
      hiddenSize: 16,
      numLayers: 4,
      numAttentionHeads: 2,
      numKeyValueHeads: 2,
      headDim: 8,
    },
    ...{ intermediateSize: 12, experts: EXPERTS, positions: 'none', qkNorm: false, gates: [], scale: 'tiny' },
    keyValueLatent: { rank: 4, sharedKeyDim: 7, valueDim: 8 },
  };
  const kinds = { dense: { feedForward: 'dense' }, sparse: {} };
  for (const pattern of [
    ['dense', 'sparse'],
    ['sparse', 'dense'],
  ]) {
    const model = ModelConfig.parse({ ...base, layers: { kinds, pattern } });
    t.deepEqual(model.layers?.pattern, pattern.slice(0, 1));
    t.is(model.keyValueLatent?.sharedKeyDim, 1);
    t.deepEqual(ModelConfig.parse(model), model);
  }
});

test('layers that cannot be had are refused where they are written', (t) => {
  const faultOf = (keys: object) => {
    const base = {
      ...{ vocabularySize: 9, hiddenSize: 16, numLayers: 2, numAttentionHeads: 4, numKeyValueHeads: 2 },
      ...{ headDim: 8, intermediateSize: 12 },
    };
    const { error } = ModelConfig.safeParse({ ...base, ...keys });
    return error?.issues.map(({ path, message }) => `${path.join('.')}: ${message}`).join('; ') ?? 'none';
  };
  const layers = (kind: object, more: object = {}) => ({
    layers: { kinds: { a: kind }, pattern: ['a'], ...more },
  });
  t.is(faultOf(layers({}, { first: ['b'] })), 'layers.first.0: there is no kind b (kinds: a)');
  t.regex(faultOf(layers({ numAttentionHeads: 3 })), /numAttentionHeads: 2 key-value heads do not divide 3/);
  t.regex(faultOf(layers({ rotaryDim: 10 })), /kinds.a.rotaryDim: 10 channels of heads of 8/);
  t.regex(faultOf({ rotaryDim: 10 }), /rotaryDim: 10 channels/);
  t.notRegex(faultOf({ headDim: -2, ...layers({}) }), /rotaryDim/);
  for (const numLayers of [0, 1e15]) t.regex(faultOf({ numLayers, ...layers({}) }), /^numLayers: [^;]*$/);
  t.regex(faultOf({ headDim: 1e9 }), /^headDim: /);
  t.regex(faultOf({ controls: [{ kind: 'switch-head', count: 1e9, topK: 2 }] }), /^controls\.0\.count: /);
  t.regex(faultOf(layers({ feedForward: 'experts' })), /says nothing of experts/);
  t.regex(faultOf({ experts: EXPERTS }), /give either intermediateSize.*--set model\.experts=null/);
  t.regex(faultOf({ experts: EXPERTS, ...layers({}) }), /intermediateSize: no layer is dense/);
  t.regex(
    faultOf({ experts: EXPERTS, ...layers({ feedForward: 'dense' }) }),
    /experts: all layers are dense/,
  );
  const grouped = (count: number, topK: number) => ({
    intermediateSize: undefined,
    experts: { ...EXPERTS, count: 8, topK: 3, groups: { count, topK } },
  });
  t.is(faultOf(grouped(4, 2)), 'none');
  t.regex(faultOf(grouped(3, 1)), /experts.groups: 3 groups do not divide 8 experts/);
  t.regex(faultOf(grouped(4, 5)), /topK 5 is more than the 4 groups/);
  t.regex(faultOf(grouped(4, 1)), /3 experts of a token are more than the 2 in 1 groups/);
  t.regex(faultOf(layers({ hiddenSize: 3 })), /Unrecognized key/);
});
