import {
  computeGradients,
  DELTA_RULE_CHUNK,
  type DeltaRuleLayout,
  documentStarts,
  gatedDeltaRule,
  Parameter,
} from '@sluice/engine';
import * as tf from '@tensorflow/tfjs';
import test from 'ava';
import fc from 'fast-check';
import { documentLengths, documentsOf } from './support/attention.ts';
import {
  finiteDifferences,
  type Operands,
  type OperandValues,
  type Operation,
  operand,
  randomValues,
  relativeError,
  runOperation,
  threadsChangeNoBit,
  worstError,
} from './support/differential.ts';

/** [sequences, tokens of each, key heads, value heads that share one, channels of a key, channels of a value] */
type Shape = readonly [number, number, number, number, number, number];

function layoutOf(
  [batch, sequence, keyHeads, group, keyDim, valueDim]: Shape,
  allowNegativeEigenvalues = false,
): DeltaRuleLayout {
  return {
    batch,
    sequence,
    keyHeads,
    valueHeads: keyHeads * group,
    keyDim,
    valueDim,
    allowNegativeEigenvalues,
  };
}

const widthOf = ({ keyHeads, valueHeads, keyDim, valueDim }: DeltaRuleLayout) =>
  2 * keyHeads * keyDim + valueHeads * valueDim;

function operandsOf(layout: DeltaRuleLayout, seed = 1) {
  const tokens = layout.batch * layout.sequence;
  return {
    heads: operand(seed, [tokens, widthOf(layout)], 2),
    logits: operand(seed + 1, [tokens, 2 * layout.valueHeads], 3),
    aLog: operand(seed + 2, [layout.valueHeads], 1.5),
    dtBias: operand(seed + 3, [layout.valueHeads], 2),
  } satisfies Operands;
}

const ruleOf =
  (layout: DeltaRuleLayout): Operation =>
  ({ heads, logits, aLog, dtBias }) =>
    gatedDeltaRule(
      heads!.onTape() as tf.Tensor2D,
      logits!.onTape() as tf.Tensor2D,
      { aLog: aLog!, dtBias: dtBias! },
      layout,
    );

/** The definition once more, over arrays of doubles. */
function plainRule(
  layout: DeltaRuleLayout,
  { heads, logits, aLog, dtBias }: Readonly<Record<string, Float64Array>>,
): Float64Array {
  const { batch, sequence, keyHeads, valueHeads, keyDim, valueDim, allowNegativeEigenvalues } = layout;
  const starts = documentStarts(layout);
  const y = new Float64Array(batch * sequence * valueHeads * valueDim);
  for (let head = 0; head < valueHeads; head++) {
    const keyHead = Math.floor((head * keyHeads) / valueHeads);
    let state: Float64Array[] = [];
    for (let token = 0; token < batch * sequence; token++) {
      if (starts[token] === token) state = Array.from({ length: keyDim }, () => new Float64Array(valueDim));
      const row = heads!.subarray(token * widthOf(layout), (token + 1) * widthOf(layout));
      const unit = (begin: number) => {
        const x = row.subarray(begin, begin + keyDim);
        const norm = Math.sqrt(x.reduce((sum, one) => sum + one * one, 1e-6));
        return x.map((one) => one / norm);
      };
      const [q, k] = [unit(keyHead * keyDim), unit((keyHeads + keyHead) * keyDim)];
      const v = row.subarray(2 * keyHeads * keyDim + head * valueDim);
      const beta =
        (allowNegativeEigenvalues ? 2 : 1) / (1 + Math.exp(-logits![token * 2 * valueHeads + head]!));
      const a = logits![(token * 2 + 1) * valueHeads + head]! + dtBias![head]!;
      const decay = Math.exp(-Math.exp(aLog![head]!) * (Math.max(a, 0) + Math.log1p(Math.exp(-Math.abs(a)))));
      state = state.map((line) => line.map((value) => value * decay));
      const u = Float64Array.from({ length: valueDim }, (_, c) => {
        return beta * (v[c]! - state.reduce((sum, line, i) => sum + line[c]! * k[i]!, 0));
      });
      state = state.map((line, i) => line.map((value, c) => value + k[i]! * u[c]!));
      for (let c = 0; c < valueDim; c++) {
        const o = state.reduce((sum, line, i) => sum + line[c]! * q[i]!, 0);
        y[(token * valueHeads + head) * valueDim + c] = o / Math.sqrt(keyDim);
      }
    }
  }
  return y;
}

test('the native kernel agrees with the reference over random shapes and documents', (t) => {
  fc.assert(
    fc.property(
      fc.tuple(
        fc.integer({ min: 1, max: 2 }),
        fc.oneof(fc.integer({ min: 1, max: 12 }), fc.integer({ min: 50, max: 140 })),
        fc.integer({ min: 1, max: 2 }),
        fc.integer({ min: 1, max: 3 }),
        fc.integer({ min: 1, max: 40 }),
        fc.integer({ min: 1, max: 40 }),
      ),
      fc.boolean(),
      fc.boolean(),
      fc.nat(),
      (shape, isNegative, areSeparate, seed) => {
        const packed = layoutOf(shape, isNegative);
        const documents = documentsOf(documentLengths(packed.batch, packed.sequence, seed));
        const layout = areSeparate ? { ...packed, documents } : packed;
        const [native, reference] = ['native', 'cpu'].map((backend) =>
          runOperation(backend, ruleOf(layout), operandsOf(layout, seed)),
        );
        const error = worstError(native!, reference!);
        t.true(error < 2e-5, `${JSON.stringify(layout)}: ${error}`);
      },
    ),
    { numRuns: 12 },
  );
});

test('the gradient agrees with finite differences in double precision', (t) => {
  for (const [layout, documents] of [
    [layoutOf([2, 5, 1, 2, 3, 4])],
    [layoutOf([1, 9, 2, 1, 4, 3], true), [0, 2, 3]],
    [layoutOf([1, 67, 1, 1, 6, 2], true)],
  ] as const) {
    const all = documents ? { ...layout, documents: Int32Array.from(documents) } : layout;
    const operands = operandsOf(all, 7);
    const expected = finiteDifferences((doubles) => plainRule(all, doubles), operands);
    const error = worstError(runOperation('native', ruleOf(all), operands), expected);
    t.true(error < 1e-5, `${JSON.stringify(all)}: ${error}`);
  }
});

test('a long sequence with weak and strong decays agrees with double precision', (t) => {
  for (const aLog of [-4, 0, 3]) {
    const layout = layoutOf([1, 700, 1, 1, 32, 32]);
    const operands = operandsOf(layout);
    operands.aLog.values.fill(aLog);
    const doubles = Object.fromEntries(
      Object.entries(operands).map(([name, { values }]) => [name, Float64Array.from(values)]),
    );
    const { output } = runOperation('native', ruleOf(layout), operands);
    t.true(largestError(output, plainRule(layout, doubles)) < 1e-6, `aLog ${aLog}`);
  }
});

/** Relative to the largest magnitude of the expected values. */
function largestError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  const values = Array.from(expected);
  return (
    Math.max(...values.map((value, i) => Math.abs(value - actual[i]!))) / Math.max(...values.map(Math.abs))
  );
}

test('the number of threads changes no bit', (t) => {
  const layout = layoutOf([2, 130, 2, 2, 18, 33]);
  t.true(threadsChangeNoBit(ruleOf(layout), operandsOf(layout)));
  const separate = { ...layout, documents: documentsOf(documentLengths(2, 130, 9)) };
  t.true(threadsChangeNoBit(ruleOf(separate), operandsOf(separate)));
});

const rowsOf = ({ shape, values }: OperandValues, begin: number, end: number): OperandValues => {
  const width = shape[1]!;
  return { shape: [end - begin, width], values: values.slice(begin * width, end * width) };
};

test('a document that is kept apart has the bits that it has alone, wherever it begins', (t) => {
  const lengths = [1, 63, 64, 65, 7];
  const layout = layoutOf([1, 200, 1, 2, 20, 12]);
  const documents = documentsOf(lengths);
  const operands = operandsOf(layout);
  const dy = randomValues(5, 200 * 24);
  const weighed =
    (one: DeltaRuleLayout, begin: number): Operation =>
    (parameters) => {
      const y = ruleOf(one)(parameters);
      return tf.sum(tf.mul(y, tf.tensor(dy.slice(begin * 24, begin * 24 + y.size), y.shape)));
    };
  const outcome = (one: DeltaRuleLayout, its: typeof operands, begin: number) => {
    const { heads, logits } = runOperation('native', weighed(one, begin), its).gradients;
    return { y: runOperation('native', ruleOf(one), its).output, heads: heads!, logits: logits! };
  };
  const all = outcome({ ...layout, documents }, operands, 0);
  for (const [i, begin] of documents.entries()) {
    const end = begin + lengths[i]!;
    const its = {
      ...operands,
      heads: rowsOf(operands.heads, begin, end),
      logits: rowsOf(operands.logits, begin, end),
    };
    const alone = outcome({ ...layout, sequence: end - begin }, its, begin);
    for (const name of ['y', 'heads', 'logits'] as const) {
      const width = alone[name].length / (end - begin);
      t.deepEqual(all[name].slice(begin * width, end * width), alone[name], `${name} from ${begin} on`);
    }
  }
});

/** The outputs of pieces that end at `cuts`, joined, and the state after the last. */
function inPieces(
  backend: string,
  layout: DeltaRuleLayout,
  { heads, logits, aLog, dtBias }: ReturnType<typeof operandsOf>,
  cuts: readonly number[],
) {
  tf.setBackend(backend);
  const state = new Float32Array(layout.valueHeads * layout.keyDim * layout.valueDim);
  const decay = {
    aLog: new Parameter('aLog', aLog.shape, aLog.values),
    dtBias: new Parameter('dtBias', dtBias.shape, dtBias.values),
  };
  const outputs = [0, ...cuts].slice(0, -1).flatMap((begin, i) => {
    const end = cuts[i]!;
    return tf.tidy(() => {
      const [x, gates] = [heads, logits].map((one) => {
        const { shape, values } = rowsOf(one, begin, end);
        return tf.tensor2d(values, shape as [number, number]);
      });
      const y = gatedDeltaRule(x!, gates!, decay, { ...layout, sequence: end - begin }, state);
      return [...y.dataSync<'float32'>()];
    });
  });
  tf.dispose([decay.aLog.tensor, decay.dtBias.tensor]);
  return { outputs, state };
}

test('a sequence that is cut where chunks end has the bits of the whole one', (t) => {
  const layout = layoutOf([1, 300, 2, 2, 18, 20], true);
  const operands = operandsOf(layout);
  const whole = inPieces('native', layout, operands, [300]);
  t.deepEqual(Float32Array.from(whole.outputs), runOperation('native', ruleOf(layout), operands).output);
  for (const cuts of [
    [64, 300],
    [128, 192, 300],
    [DELTA_RULE_CHUNK, 2 * DELTA_RULE_CHUNK, 256, 300],
  ]) {
    t.deepEqual(inPieces('native', layout, operands, cuts), whole);
  }
});

test('a sequence that is cut anywhere, and one token at a time, is the same to rounding', (t) => {
  const layout = layoutOf([1, 90, 1, 2, 18, 20], true);
  const operands = operandsOf(layout);
  const whole = inPieces('native', layout, operands, [90]);
  const one = Array.from({ length: 90 }, (_, i) => i + 1);
  for (const cuts of [[13, 90], [1, 2, 77, 90], one]) {
    const pieces = inPieces('native', layout, operands, cuts);
    t.true(largestError(pieces.outputs, whole.outputs) < 2e-6, `${cuts}`);
    t.true(largestError(pieces.state, whole.state) < 2e-6, `${cuts}`);
  }
  const reference = inPieces('cpu', layout, operands, [40, 90]);
  t.true(largestError(reference.outputs, whole.outputs) < 2e-6);
  t.true(largestError(reference.state, whole.state) < 2e-6);
});

test('without decay, orthogonal keys are kept as they came', (t) => {
  tf.setBackend('native');
  const layout = layoutOf([1, 16, 1, 1, 16, 16]);
  const heads = new Float32Array(16 * 48);
  for (let token = 0; token < 16; token++) {
    heads[token * 48 + 16 + token] = 3;
    heads.set(randomValues(token, 16), token * 48 + 32);
  }
  const operands = {
    heads: { shape: [16, 48], values: heads },
    logits: { shape: [16, 2], values: new Float32Array(32).map((_, i) => (i % 2 === 0 ? 90 : -90)) },
    aLog: operand(1, [1]),
    dtBias: { shape: [1], values: new Float32Array(1) },
  };
  const { state } = inPieces('native', layout, operands, [16]);
  for (let token = 0; token < 16; token++) {
    const value = heads.slice(token * 48 + 32, token * 48 + 48);
    t.true(relativeError(state.slice(token * 16, token * 16 + 16), value) < 1e-6);
  }
});

test('logits of any size give finite numbers, and what the definition gives', (t) => {
  const layout = layoutOf([1, 130, 1, 2, 16, 16]);
  const operands = operandsOf(layout);
  operands.logits.values.forEach((value, i) => {
    operands.logits.values[i] = i % 5 === 0 ? value * 100 : value;
  });
  operands.heads.values.fill(0, 20 * 64, 22 * 64);
  const [native, reference] = ['native', 'cpu'].map((backend) =>
    runOperation(backend, ruleOf(layout), operands),
  );
  for (const values of [native!.output, ...Object.values(native!.gradients)]) {
    t.true(values.every(Number.isFinite));
  }
  t.true(largestError(native!.output, reference!.output) < 2e-6);
  t.true(largestError(native!.gradients.logits!, reference!.gradients.logits!) < 1e-5);
});

test('a number that is not finite shows in the output', (t) => {
  const layout = layoutOf([1, 40, 1, 1, 8, 8]);
  for (const name of ['heads', 'logits', 'aLog', 'dtBias'] as const) {
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
      const operands = operandsOf(layout);
      // Of the logits those of the decay: an infinite one of β is a β of 1.
      operands[name].values[name === 'logits' ? 1 : 0] = bad;
      const { output } = runOperation('native', ruleOf(layout), operands);
      t.false(output.every(Number.isFinite), `${name} ${bad}`);
    }
  }
});

test('gradients are right where they take the memory of their inputs', (t) => {
  const layout = layoutOf([1, 140, 1, 2, 18, 20]);
  const operands = operandsOf(layout);
  const plain = runOperation('native', ruleOf(layout), operands);
  const alone: Operation = ({ heads, logits, aLog, dtBias }) =>
    gatedDeltaRule(
      tf.mul(heads!.onTape(), 1) as tf.Tensor2D,
      tf.mul(logits!.onTape(), 1) as tf.Tensor2D,
      { aLog: aLog!, dtBias: dtBias! },
      layout,
    );
  t.deepEqual(runOperation('native', alone, operands), plain);
});

test('a gradient of a sequence that is continued is refused', (t) => {
  tf.setBackend('native');
  const layout = layoutOf([1, 3, 1, 1, 4, 4]);
  const { heads, logits, aLog, dtBias } = Object.fromEntries(
    Object.entries(operandsOf(layout)).map(([name, { shape, values }]) => [
      name,
      new Parameter(name, shape, values),
    ]),
  ) as Record<keyof ReturnType<typeof operandsOf>, Parameter>;
  const rule = () => {
    const [x, gates] = [heads.onTape() as tf.Tensor2D, logits.onTape() as tf.Tensor2D];
    return tf.sum(gatedDeltaRule(x, gates, { aLog, dtBias }, layout, new Float32Array(16))) as tf.Scalar;
  };
  t.throws(() => computeGradients(rule), { message: /no gradient/ });
});
