import {
  attentionLayers,
  countParameters,
  type Decoder,
  flopsPerToken,
  headRows,
  initializeTensor,
  KeyValueCache,
  layerModels,
  ModelConfig,
  modelTensors,
} from '@sluice/model';
import * as tf from '@tensorflow/tfjs';
import test from 'ava';
import { relativeError } from '../engine/support/differential.ts';
import { tinyDecoder, tinyModel, tokens, VOCABULARY } from './support.ts';

const DELTA_NET = { kind: 'gated-delta-net', keyHeads: 2, valueHeads: 4, keyDim: 6, valueDim: 5 };

/** A layer of each kind, and one in a window. */
const hybrid = (keys: object = {}) =>
  tinyModel({
    numLayers: 4,
    layers: {
      kinds: {
        linear: { mixer: DELTA_NET },
        conv: { mixer: { kind: 'short-convolution', taps: 3 } },
        near: { window: 8 },
        full: {},
      },
      pattern: ['linear', 'conv', 'near', 'full'],
    },
    ...keys,
  });

test('a mixer has the tensors of its layouts, and the layer none of attention', (t) => {
  const shapes = Object.fromEntries(modelTensors(hybrid()).map(({ name, shape }) => [name, shape]));
  const ofLayer = (layer: number) =>
    Object.fromEntries(
      Object.entries(shapes)
        .filter(([name]) => /\.(linear_attn|conv|self_attn)\./.test(name))
        .filter(([name]) => name.startsWith(`model.layers.${layer}.`))
        .map(([name, shape]) => [name.slice('model.layers.0.'.length), shape]),
    );
  t.deepEqual(ofLayer(0), {
    'linear_attn.in_proj_qkv.weight': [44, 16],
    'linear_attn.in_proj_z.weight': [20, 16],
    'linear_attn.in_proj_b.weight': [4, 16],
    'linear_attn.in_proj_a.weight': [4, 16],
    'linear_attn.conv1d.weight': [44, 1, 4],
    'linear_attn.A_log': [4],
    'linear_attn.dt_bias': [4],
    'linear_attn.norm.weight': [5],
    'linear_attn.out_proj.weight': [16, 20],
  });
  t.deepEqual(ofLayer(1), {
    'conv.in_proj.weight': [48, 16],
    'conv.conv.weight': [16, 1, 3],
    'conv.out_proj.weight': [16, 16],
  });
  t.true('self_attn.q_proj.weight' in ofLayer(2));
});

test('parameters and operations count by layer', (t) => {
  const model = hybrid();
  const { total, active, embedding, byPart } = countParameters(model);
  t.is(
    total,
    modelTensors(model).reduce((sum, { size }) => sum + size, 0),
  );
  t.is(byPart.gate, 20 * 16 + 2 * 32 * 16);
  t.deepEqual(attentionLayers(model), [2, 3]);
  t.deepEqual(
    [...headRows(model).values()].map(({ layer }) => layer),
    [2, 2, 3, 3],
  );
  const mixing = 18 * 4 * 6 * 5 + 12 * 8 * (1 - 8 / 64) * 32 + 6 * 32 * 32;
  t.is(flopsPerToken(model, 32), 6 * (active - embedding) + mixing);
});

test('a mixer of the whole model may be attention again in a kind of layers', (t) => {
  const model = tinyModel({
    numLayers: 2,
    mixer: DELTA_NET,
    layers: { kinds: { linear: {}, full: { mixer: { kind: 'attention' } } }, pattern: ['linear', 'full'] },
  });
  t.deepEqual(attentionLayers(model), [1]);
  t.deepEqual(layerModels(model)[0]!.gates, []);
  t.is(layerModels(model)[1]!.gates.length, 1);
  t.deepEqual(attentionLayers(tinyModel({ mixer: DELTA_NET })), []);
});

const LATENT = {
  ...{ numKeyValueHeads: 4, headDim: 10, qkNorm: false, gates: [], positions: 'none' },
  keyValueLatent: { rank: 6, sharedKeyDim: 4, valueDim: 8 },
};

/** What Kimi-Linear is made of. */
const kimi = (keys: object = {}) =>
  tinyModel({
    ...LATENT,
    numLayers: 2,
    layers: {
      kinds: {
        linear: { mixer: { kind: 'kimi-delta-attention', heads: 3, keyDim: 5, valueDim: 4, rank: 2 } },
        full: {},
      },
      pattern: ['linear', 'full'],
    },
    ...keys,
  });

test('Kimi delta attention, and keys and values of a latent, have their tensors and operations', (t) => {
  const model = kimi();
  const shapes = modelTensors(model)
    .filter(({ name }) => /\.(linear_attn|self_attn)\./.test(name))
    .map(({ name, shape }) => `${name.slice('model.layers.'.length)} ${shape}`);
  t.deepEqual(shapes, [
    '0.linear_attn.in_proj_qkv.weight 42,16',
    '0.linear_attn.f_a_proj.weight 2,16',
    '0.linear_attn.b_proj.weight 3,16',
    '0.linear_attn.f_b_proj.weight 15,2',
    '0.linear_attn.g_a_proj.weight 2,16',
    '0.linear_attn.g_b_proj.weight 12,2',
    '0.linear_attn.conv1d.weight 42,1,4',
    '0.linear_attn.A_log 3',
    '0.linear_attn.dt_bias 15',
    '0.linear_attn.norm.weight 4',
    '0.linear_attn.out_proj.weight 16,12',
    '1.self_attn.q_proj.weight 40,16',
    '1.self_attn.kv_a_proj_with_mqa.weight 10,16',
    '1.self_attn.kv_a_layernorm.weight 6',
    '1.self_attn.kv_b_proj.weight 56,6',
    '1.self_attn.o_proj.weight 16,32',
  ]);
  const { active, embedding, byPart } = countParameters(model);
  t.is(byPart.gate, 2 * 16 + 12 * 2);
  const mixing = 18 * 3 * 5 * 4 + 3 * 32 * 4 * (10 + 8);
  t.is(flopsPerToken(model, 32), 6 * (active - embedding) + mixing);
});

test('of keys made of a latent, rows that no head has alone are not scaled, and the queries that meet them are', (t) => {
  const rows = headRows(kimi());
  const query = rows.get('model.layers.1.self_attn.q_proj.weight')!;
  const key = rows.get('model.layers.1.self_attn.kv_b_proj.weight')!;
  t.is(rows.size, 2);
  t.deepEqual([...query.heads.subarray(8, 12)], [0, 0, 1, 1]);
  t.deepEqual(query.meetsSharedKey!.slice(4, 12), [false, false, true, true, true, true, false, false]);
  t.deepEqual([...key.heads.subarray(0, 15)], [...Array(6).fill(0), ...Array(8).fill(-1), 1]);
});

test('latents that cannot be had are refused where they are written', (t) => {
  const faultOf = (keys: object) => {
    try {
      kimi(keys);
      return 'none';
    } catch (error) {
      return (error as Error).message;
    }
  };
  const { keyValueLatent } = LATENT;
  t.is(faultOf({}), 'none');
  t.is(faultOf({ gates: [{ granularity: 'headwise' }, { position: 'output' }] }), 'none');
  t.regex(faultOf({ gates: undefined }), /a gate at sdpa, elementwise/);
  t.regex(faultOf({ gates: [{ position: 'value', granularity: 'headwise' }] }), /a gate at value, headwise/);
  t.regex(faultOf({ qkNorm: true }), /set qkNorm to false/);
  t.regex(faultOf({ positions: 'rotary' }), /set positions to none/);
  t.regex(faultOf({ numKeyValueHeads: 2 }), /4 query heads for 2 of keys/);
  t.regex(faultOf({ controls: [{ kind: 'sdpa-norm' }] }), /the control sdpa-norm/);
  t.regex(faultOf({ keyValueLatent: { ...keyValueLatent, valueDim: 12 } }), /values of 12 channels/);
  t.regex(
    faultOf({ keyValueLatent: { ...keyValueLatent, sharedKeyDim: 10 } }),
    /10 shared channels of keys of 10/,
  );
});

test('a model of mixers shrinks with its ratios', (t) => {
  const tiny = ModelConfig.parse({
    ...{ vocabularySize: 1000, hiddenSize: 4096, numLayers: 32, numAttentionHeads: 16, numKeyValueHeads: 4 },
    ...{ headDim: 256, intermediateSize: 12288, scale: 'tiny' },
    layers: {
      kinds: {
        linear: { mixer: { ...DELTA_NET, keyHeads: 16, valueHeads: 48, keyDim: 128, valueDim: 128 } },
        full: {},
      },
      pattern: ['linear', 'linear', 'linear', 'full'],
    },
  });
  const { mixer } = layerModels(tiny)[0]!;
  t.like(mixer, { keyHeads: 4, valueHeads: 12, keyDim: 16, valueDim: 16 });
});

test('decays and convolutions begin where their configuration says, whatever else the model has', (t) => {
  const model = hybrid({
    layers: {
      kinds: {
        slow: { mixer: { ...DELTA_NET, keyHeads: 64, valueHeads: 64 } },
        fast: { mixer: { ...DELTA_NET, initialDecay: 'fast' } },
      },
      pattern: ['slow', 'fast'],
    },
  });
  const tensors = new Map(modelTensors(model).map((tensor) => [tensor.name, tensor]));
  const initial = (name: string) => {
    const tensor = tensors.get(`model.layers.${name}`)!;
    const values = new Float32Array(tensor.size);
    initializeTensor(tensor, values, model, 3);
    return values;
  };
  const isWithin = (values: Float32Array, low: number, high: number) => {
    t.true(values.every((value) => value >= low && value <= high));
    return (Math.max(...values) - Math.min(...values)) / (high - low);
  };
  t.true(isWithin(initial('0.linear_attn.A_log').map(Math.exp), 1, 16) > 0.8);
  const steps = initial('0.linear_attn.dt_bias').map((value) => Math.log(Math.log1p(Math.exp(value))));
  t.true(isWithin(steps, Math.log(0.000999), Math.log(0.1001)) > 0.8);
  t.true(isWithin(initial('0.linear_attn.conv1d.weight'), -0.5, 0.5) > 0.9);
  isWithin(initial('1.linear_attn.A_log').map(Math.exp), 0.01, 16);
  t.deepEqual(initial('1.linear_attn.dt_bias'), new Float32Array(4).fill(1));
  t.deepEqual(initial('1.linear_attn.norm.weight'), new Float32Array(5).fill(1));
});

/** Logits of every token, and those that a cache gives piece by piece. */
function inPieces(decoder: Decoder, ids: Int32Array, cuts: readonly number[]) {
  const cache = new KeyValueCache(decoder.config, ids.length);
  const pieces = cuts.flatMap((end, i) => [
    ...decoder.followingLogits(ids.slice(cuts[i - 1] ?? 0, end), cache),
  ]);
  const whole = tf.tidy(() => decoder.logits({ inputs: ids, sequences: 1 }).dataSync<'float32'>().slice());
  return { pieces: Float32Array.from(pieces), whole };
}

test('a text that comes in pieces, or token by token, has the logits of the whole one', (t) => {
  tf.setBackend('native');
  for (const model of [hybrid(), kimi({ gates: [{ granularity: 'headwise' }] })]) {
    const { decoder } = tinyDecoder(model);
    const ids = tokens(90);
    const everyToken = Array.from(ids, (_, i) => i + 1);
    for (const cuts of [[90], [64, 90], [7, 20, 21, 90], everyToken]) {
      const { pieces, whole } = inPieces(decoder, ids, cuts);
      t.true(relativeError(pieces, whole) < 2e-5, `${cuts}`);
    }
  }
});

test('a model without attention that is cut where chunks end has the bits of the whole', (t) => {
  tf.setBackend('native');
  const kimiMixer = { kind: 'kimi-delta-attention', heads: 3, keyDim: 5, valueDim: 4 };
  for (const mixer of [DELTA_NET, kimiMixer]) {
    const { decoder } = tinyDecoder(tinyModel({ numLayers: 2, mixer }));
    const { pieces, whole } = inPieces(decoder, tokens(150), [64, 128, 150]);
    t.deepEqual(pieces, whole);
  }
});

test('a cache comes back to where it was marked, and to nowhere else', (t) => {
  tf.setBackend('native');
  const { decoder } = tinyDecoder(hybrid());
  const [prompt, first, second] = [tokens(30), tokens(20, 2), tokens(3, 3)];
  const cache = new KeyValueCache(decoder.config, 60);
  const after = () => decoder.followingLogits(second, cache);
  decoder.nextTokenLogits(prompt, cache);
  cache.mark();
  const expected = after();
  for (const text of [first, tokens(25, 4)]) {
    cache.truncate(30);
    decoder.nextTokenLogits(text, cache);
    cache.truncate(30);
    t.deepEqual(after(), expected);
  }
  t.throws(() => cache.truncate(31), { message: /was not marked|mark it first/ });
  cache.clear();
  decoder.nextTokenLogits(prompt, cache);
  t.deepEqual(after(), expected);
  t.throws(() => cache.truncate(30), { message: /was not marked|mark it first/ });
});

test('what a window has left behind takes no memory in the cache', (t) => {
  tf.setBackend('native');
  const { decoder } = tinyDecoder(tinyModel({ window: 4 }));
  const cache = new KeyValueCache(decoder.config, 10_000);
  const ids = tokens(300);
  let floats = 0;
  const append = cache.append.bind(cache);
  cache.append = (...args) => {
    const held = append(...args);
    floats = Math.max(floats, held.keys.length);
    return held;
  };
  for (const [i] of ids.entries()) decoder.nextTokenLogits(ids.slice(i, i + 1), cache);
  t.true(floats <= 8 * 16, `${floats}`);
  const expected = tf.tidy(() => decoder.logits({ inputs: ids, sequences: 1 }).dataSync<'float32'>().slice());
  cache.truncate(299);
  const last = decoder.nextTokenLogits(ids.slice(-1), cache);
  t.true(relativeError(last, expected.slice(-VOCABULARY)) < 1e-5);
});
