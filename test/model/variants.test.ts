import { poolStatistics, setThreads } from '@sluice/engine';
import {
  GATE_ACTIVATION_NAMES,
  GATE_POSITIONS,
  KeyValueCache,
  ModelConfig,
  modelTensors,
} from '@sluice/model';
import * as tf from '@tensorflow/tfjs';
import test from 'ava';
import fc from 'fast-check';
import { relativeError } from '../engine/support/differential.ts';
import {
  DOCUMENTS,
  lossAndGradients,
  lossOf,
  type Pass,
  passOn,
  type TinyDecoder,
  tinyDecoder,
  tinyModel,
  tokens,
  VOCABULARY,
} from './support.ts';
import { VARIANTS } from './variantModels.ts';

function worstOf(a: Pass, b: Pass): number {
  const names = Object.keys(b.gradients);
  return Math.max(
    relativeError(a.logits, b.logits),
    Math.abs(a.loss - b.loss) / b.loss,
    ...names.map((name) => relativeError(a.gradients[name]!, b.gradients[name]!)),
  );
}

function bitsOf({ loss, logits, gradients }: Pass): string {
  const hex = (values: Float32Array) =>
    Buffer.from(values.buffer, values.byteOffset, values.byteLength).toString('hex');
  return [loss, hex(logits), ...Object.values(gradients).map(hex)].join();
}

for (const [name, keys] of Object.entries(VARIANTS)) {
  test(`${name}: logits, loss and gradients are those of the plain backend, on any number of threads`, (t) => {
    const model = tinyModel(keys);
    const plain = passOn('cpu', model);
    setThreads(1);
    const native = passOn('native', model);
    t.true(worstOf(native, plain) < 1e-4, `${worstOf(native, plain)}`);
    const untrained = new Set(
      modelTensors(model).flatMap(({ name, isTrained }) => (isTrained ? [] : [name])),
    );
    for (const [parameter, gradient] of Object.entries(native.gradients)) {
      t.is(
        gradient.some((x) => x !== 0),
        !untrained.has(parameter),
        `${parameter} has a gradient`,
      );
    }
    setThreads(2);
    t.is(bitsOf(passOn('native', model)), bitsOf(native));
  });

  test(`${name}: documents that are kept apart give the same on native as on the plain backend`, (t) => {
    const model = tinyModel(keys);
    const plain = passOn('cpu', model, DOCUMENTS);
    const native = passOn('native', model, DOCUMENTS);
    t.true(worstOf(native, plain) < 1e-4, `${worstOf(native, plain)}`);
    t.notDeepEqual(native.logits, passOn('native', model).logits);
  });

  test(`${name}: the logits of a document do not depend on its neighbours`, (t) => {
    tf.setBackend('native');
    const { decoder } = tinyDecoder(tinyModel(keys));
    const logitsOf = (inputs: Int32Array, documents?: Int32Array) =>
      tf.tidy(() => decoder.logits({ inputs, sequences: 1, documents }).dataSync<'float32'>().slice());
    const bounds = [0, 1, 9, 42, 80, 113];
    const ids = tokens(113);
    const all = logitsOf(ids, Int32Array.from(bounds.slice(0, -1)));
    for (const [i, begin] of bounds.slice(0, -1).entries()) {
      const end = bounds[i + 1]!;
      const alone = logitsOf(ids.slice(begin, end));
      t.deepEqual(all.slice(begin * VOCABULARY, end * VOCABULARY), alone, `${begin} to ${end}`);
    }
  });

  test(`${name}: gradients are those of finite differences`, (t) => {
    tf.setBackend('native');
    const tiny = tinyDecoder(tinyModel(keys));
    const { gradients } = lossAndGradients(tiny);
    for (const [parameter, gradient] of Object.entries(gradients)) {
      const slope = Math.hypot(...gradient);
      if (slope === 0) continue;
      const measured = slopeAlong(tiny, parameter, gradient, slope);
      // The loss is single precision, and clipping has corners.
      t.true(Math.abs(measured - slope) < 0.02 * slope + 1e-3, `${parameter}: ${measured}, not ${slope}`);
    }
  });

  test(`${name}: a key-value cache changes no logit`, (t) => {
    tf.setBackend('native');
    const model = tinyModel(keys);
    const { decoder } = tinyDecoder(model);
    const ids = tokens(7);
    const cache = new KeyValueCache(model, ids.length);
    decoder.nextTokenLogits(ids.slice(0, 4), cache);
    decoder.nextTokenLogits(ids.slice(4, 5), cache);
    const cached = decoder.nextTokenLogits(ids.slice(5), cache);
    t.true(relativeError(cached, decoder.nextTokenLogits(ids)) < 1e-5);
  });
}

/** The slope of the loss along the gradient of one parameter, by central differences. */
function slopeAlong(tiny: TinyDecoder, name: string, gradient: Float32Array, norm: number): number {
  const values = tiny.parameters.get(name)!.hostValues;
  const saved = values.slice();
  const step = 2e-4;
  const lossAt = (distance: number) => {
    for (const [i, value] of saved.entries()) values[i] = value + (distance * gradient[i]!) / norm;
    return lossOf(tiny);
  };
  const slope = (lossAt(step) - lossAt(-step)) / (2 * step);
  values.set(saved);
  return slope;
}

const anyGate = fc.record({
  position: fc.constantFrom(...GATE_POSITIONS),
  granularity: fc.constantFrom('elementwise', 'headwise'),
  sharing: fc.constantFrom('head-specific', 'head-shared'),
  form: fc.constantFrom('multiplicative', 'additive'),
  activation: fc.constantFrom(...GATE_ACTIVATION_NAMES),
  input: fc.constantFrom('query-dependent', 'input-independent'),
});

test('any gates that are not refused give the same on native as on the plain backend', (t) => {
  setThreads(1);
  fc.assert(
    fc.property(fc.array(anyGate, { minLength: 1, maxLength: 3 }), fc.boolean(), (gates, qkNorm) => {
      const base = { vocabularySize: 24, hiddenSize: 16, numLayers: 1, numAttentionHeads: 4 };
      const rest = { numKeyValueHeads: 2, headDim: 8, intermediateSize: 12 };
      const parsed = ModelConfig.safeParse({ ...base, ...rest, qkNorm, gates });
      fc.pre(parsed.success);
      return worstOf(passOn('native', parsed.data!), passOn('cpu', parsed.data!)) < 1e-4;
    }),
    { numRuns: 30, seed: 5 },
  );
  t.pass();
});

test('a pass leaves no tensor and no lent buffer behind', (t) => {
  tf.setBackend('native');
  const tiny = tinyDecoder(tinyModel(VARIANTS['much together, with experts']));
  lossAndGradients(tiny);
  const before = { tensors: tf.memory().numTensors, lent: poolStatistics().usedBytes };
  for (let i = 0; i < 3; i++) lossAndGradients(tiny);
  t.deepEqual({ tensors: tf.memory().numTensors, lent: poolStatistics().usedBytes }, before);
});

test('one switched value of one is the headwise gate on values', (t) => {
  tf.setBackend('native');
  const gated = tinyDecoder(tinyModel(VARIANTS['a headwise gate on values']));
  const switched = tinyDecoder(
    tinyModel({ gates: [], controls: [{ kind: 'switch-head', count: 1, topK: 1 }] }),
  );
  for (const [name, { hostValues }] of switched.parameters) {
    hostValues.set(gated.parameters.get(name.replace('value_router', 'value_gate'))!.hostValues);
  }
  t.is(lossOf(switched), lossOf(gated));
});

test('an input-independent gate starts at a half, so it halves the output of attention', (t) => {
  tf.setBackend('native');
  const gated = tinyDecoder(tinyModel(VARIANTS['an input-independent gate']), 0);
  const plain = tinyDecoder(tinyModel({ gates: [] }), 0);
  const values = plain.parameters.get('model.layers.0.self_attn.o_proj.weight')!.hostValues;
  for (const [i, value] of values.entries()) values[i] = value / 2;
  t.true(Math.abs(lossOf(gated) - lossOf(plain)) < 1e-6);
});

test('what a sink takes from the first token’s attention is half of it where its score equals the token’s', (t) => {
  tf.setBackend('native');
  // With keys of zero all scores are zero: the first token sees itself and the sink, each with one half.
  const outputs = [{ controls: [{ kind: 'attention-sink', score: 'zero' }] }, {}].map((keys) => {
    const { decoder, parameters } = tinyDecoder(tinyModel({ gates: [], qkNorm: false, ...keys }));
    const qkv = parameters.get('model.layers.0.self_attn.qkv_proj.weight')!.hostValues;
    qkv.fill(0, 0, (32 + 16) * 16);
    const down = parameters.get('model.layers.0.mlp.down_proj.weight')!.hostValues;
    down.fill(0);
    return { decoder, o: parameters.get('model.layers.0.self_attn.o_proj.weight')!.hostValues };
  });
  const [sunk, plain] = outputs;
  for (const [i, value] of plain!.o.entries()) plain!.o[i] = value / 2;
  const first = tokens(1);
  t.true(relativeError(sunk!.decoder.nextTokenLogits(first), plain!.decoder.nextTokenLogits(first)) < 1e-6);
});

const REFUSED: readonly (readonly [keys: object, reason: RegExp])[] = [
  [{ gate: { position: 'output', granularity: 'headwise' } }, /no heads any more/],
  [{ gate: { position: 'output', sharing: 'head-shared' } }, /no heads any more/],
  [{ gate: { position: 'query', granularity: 'headwise' } }, /takes out again/],
  [{ gates: [{}, { position: 'key', granularity: 'headwise' }] }, /takes out again/],
  [{ gate: { input: 'input-independent', initialWeights: 'zeros' } }, /which has no W/],
  [{ gate: {}, gates: [{}] }, /either gate or gates.*to drop the former: --set model\.gate=null/],
  [{ controls: [{ kind: 'switch-head', count: 2, topK: 3 }] }, /more than their 2 experts/],
  [{ controls: [{ kind: 'sdpa-norm' }, { kind: 'sdpa-norm' }] }, /a second time/],
  [{ controls: [{ kind: 'clip-outputs' }] }, /number/],
  [{ controls: [{ kind: 'sdpa-relu' }] }, /sdpa-norm|Invalid/],
  [
    { mixer: { kind: 'gated-delta-net', keyHeads: 2, valueHeads: 3, keyDim: 4, valueDim: 4 } },
    /3 value heads for 2 key heads/,
  ],
  [{ window: 4, controls: [{ kind: 'attention-sink' }] }, /a window leaves no sight/],
];

test('combinations without sense are refused with a reason', (t) => {
  for (const [keys, reason] of REFUSED) {
    const error = t.throws(() => tinyModel(keys), undefined, JSON.stringify(keys));
    t.regex(error?.message ?? '', reason);
  }
  t.notThrows(() => tinyModel({ qkNorm: false, gate: { position: 'query', granularity: 'headwise' } }));
});

test('gates are written in several ways and come out in one, which means the same when it is read again', (t) => {
  const headwise = tinyModel({ gate: { granularity: 'headwise' } });
  t.deepEqual(headwise, tinyModel({ gates: [{ granularity: 'headwise' }] }));
  t.deepEqual(tinyModel({ gate: { granularity: 'none' } }), tinyModel({ gates: [] }));
  t.deepEqual(tinyModel({}), tinyModel({ gate: { position: 'sdpa', granularity: 'elementwise' } }));
  for (const keys of Object.values(VARIANTS)) {
    t.deepEqual(ModelConfig.parse(tinyModel(keys)), tinyModel(keys));
  }
});
