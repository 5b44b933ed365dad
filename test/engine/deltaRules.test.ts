import {
  computeGradients,
  DELTA_RULE_CHUNK,
  type DeltaRuleLayout,
  deltaRuleScratch,
  documentStarts,
  gatedDeltaRule,
  type KimiDeltaRuleInputs,
  type KimiDeltaRuleLayout,
  kimiDeltaRule,
  Parameter,
  type RowLayout,
} from '@sluice/engine';
import * as tf from '@tensorflow/tfjs';
import test from 'ava';
import fc from 'fast-check';
import { callNative } from '../../packages/engine/src/native.ts';
import { documentLengths, documentsOf } from './support/attention.ts';
import {
  finiteDifferences,
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

type Layout = RowLayout & {
  readonly valueHeads: number;
  readonly keyDim: number;
  readonly valueDim: number;
};

interface Rule {
  readonly name: string;
  /** @param isWide whether β goes up to 2, where it can */
  readonly layoutOf: (shape: Shape, isWide?: boolean) => Layout;
  readonly operandsOf: (layout: Layout, seed?: number) => Record<string, OperandValues>;
  /** Operands with a row for each token. */
  readonly rows: readonly string[];
  /** Operands by whose numbers states decay. */
  readonly decays: readonly string[];
  readonly compute: (
    operands: Readonly<Record<string, tf.Tensor>>,
    parameters: Readonly<Record<string, Parameter>>,
    layout: Layout,
    state?: Float32Array,
  ) => tf.Tensor2D;
  /** Of a head and token, in doubles: its query, key (before they have unit length), value, β, and decays. */
  readonly at: (
    layout: Layout,
    operands: Readonly<Record<string, Float64Array>>,
    head: number,
    token: number,
  ) => { q: Float64Array; k: Float64Array; v: Float64Array; beta: number; decays: number[] };
}

const softplus = (x: number) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));

function part(row: Float64Array, index: number, width: number): Float64Array {
  return row.subarray(index * width, (index + 1) * width);
}

const GATED: Rule = {
  name: 'gated delta rule',
  layoutOf: ([batch, sequence, keyHeads, group, keyDim, valueDim], isWide = false): DeltaRuleLayout => {
    const heads = { keyHeads, valueHeads: keyHeads * group };
    return { batch, sequence, ...heads, keyDim, valueDim, allowNegativeEigenvalues: isWide };
  },
  operandsOf(layout, seed = 1) {
    const { batch, sequence, keyHeads, valueHeads, keyDim, valueDim } = layout as DeltaRuleLayout;
    const tokens = batch * sequence;
    return {
      heads: operand(seed, [tokens, 2 * keyHeads * keyDim + valueHeads * valueDim], 2),
      logits: operand(seed + 1, [tokens, 2 * valueHeads], 3),
      aLog: operand(seed + 2, [valueHeads], 1.5),
      dtBias: operand(seed + 3, [valueHeads], 2),
    };
  },
  rows: ['heads', 'logits'],
  decays: ['logits', 'aLog', 'dtBias'],
  compute: ({ heads, logits }, { aLog, dtBias }, layout, state) =>
    gatedDeltaRule(
      heads as tf.Tensor2D,
      logits as tf.Tensor2D,
      { aLog: aLog!, dtBias: dtBias! },
      layout as DeltaRuleLayout,
      state,
    ),
  at(layout, { heads, logits, aLog, dtBias }, head, token) {
    const { keyHeads, valueHeads, keyDim, valueDim, allowNegativeEigenvalues } = layout as DeltaRuleLayout;
    const row = part(heads!, token, 2 * keyHeads * keyDim + valueHeads * valueDim);
    const keyHead = Math.floor((head * keyHeads) / valueHeads);
    const [b, a] = [logits![token * 2 * valueHeads + head]!, logits![(token * 2 + 1) * valueHeads + head]!];
    const decay = Math.exp(-Math.exp(aLog![head]!) * softplus(a + dtBias![head]!));
    return {
      q: part(row, keyHead, keyDim),
      k: part(row, keyHeads + keyHead, keyDim),
      v: part(row.subarray(2 * keyHeads * keyDim), head, valueDim),
      beta: sigmoid(b) * (allowNegativeEigenvalues ? 2 : 1),
      decays: Array<number>(keyDim).fill(decay),
    };
  },
};

const KIMI: Rule = {
  name: 'Kimi delta rule',
  layoutOf: ([batch, sequence, keyHeads, group, keyDim, valueDim]): Layout & KimiDeltaRuleLayout => {
    const heads = keyHeads * group;
    return { batch, sequence, heads, valueHeads: heads, keyDim, valueDim };
  },
  operandsOf({ batch, sequence, valueHeads, keyDim, valueDim }, seed = 1) {
    const tokens = batch * sequence;
    return {
      heads: operand(seed, [tokens, valueHeads * (2 * keyDim + valueDim)], 2),
      beta: operand(seed + 1, [tokens, valueHeads], 3),
      decay: operand(seed + 2, [tokens, valueHeads * keyDim], 3),
      aLog: operand(seed + 3, [valueHeads], 1.5),
      dtBias: operand(seed + 4, [valueHeads * keyDim], 2),
    };
  },
  rows: ['heads', 'beta', 'decay'],
  decays: ['decay', 'aLog', 'dtBias'],
  compute: (operands, { aLog, dtBias }, layout, state) =>
    kimiDeltaRule(
      operands as unknown as KimiDeltaRuleInputs,
      { aLog: aLog!, dtBias: dtBias! },
      { ...layout, heads: layout.valueHeads },
      state,
    ),
  at({ valueHeads: heads, keyDim, valueDim }, { heads: rows, beta, decay, aLog, dtBias }, head, token) {
    const row = part(rows!, token, heads * (2 * keyDim + valueDim));
    const a = part(part(decay!, token, heads * keyDim), head, keyDim);
    return {
      q: part(row, head, keyDim),
      k: part(row, heads + head, keyDim),
      v: part(row.subarray(2 * heads * keyDim), head, valueDim),
      beta: sigmoid(beta![token * heads + head]!),
      decays: [...a].map((x, c) =>
        Math.exp(-Math.exp(aLog![head]!) * softplus(x + dtBias![head * keyDim + c]!)),
      ),
    };
  },
};

const RULES = [GATED, KIMI];

const ruleOf =
  ({ rows, compute }: Rule, layout: Layout, change = (x: tf.Tensor) => x): Operation =>
  (parameters) => {
    const tensors = Object.fromEntries(rows.map((name) => [name, change(parameters[name]!.onTape())]));
    return compute(tensors, parameters, layout);
  };

/** The definition once more, over arrays of doubles. */
function plainRule(
  rule: Rule,
  layout: Layout,
  operands: Readonly<Record<string, Float64Array>>,
): Float64Array {
  const { batch, sequence, valueHeads, keyDim, valueDim } = layout;
  const starts = documentStarts(layout);
  const y = new Float64Array(batch * sequence * valueHeads * valueDim);
  const unit = (x: Float64Array) => {
    const norm = Math.sqrt(x.reduce((sum, one) => sum + one * one, 1e-6));
    return x.map((one) => one / norm);
  };
  for (let head = 0; head < valueHeads; head++) {
    let state: Float64Array[] = [];
    for (let token = 0; token < batch * sequence; token++) {
      if (starts[token] === token) state = Array.from({ length: keyDim }, () => new Float64Array(valueDim));
      const { q: query, k: key, v, beta, decays } = rule.at(layout, operands, head, token);
      const [q, k] = [unit(query), unit(key)];
      state = state.map((line, i) => line.map((value) => value * decays[i]!));
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

for (const rule of RULES) {
  const { name, layoutOf, operandsOf } = rule;

  test(`${name}: the native kernel agrees with the reference over random shapes and documents`, (t) => {
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
        (shape, isWide, areSeparate, seed) => {
          const packed = layoutOf(shape, isWide);
          const documents = documentsOf(documentLengths(packed.batch, packed.sequence, seed));
          const layout = areSeparate ? { ...packed, documents } : packed;
          const [native, reference] = ['native', 'cpu'].map((backend) =>
            runOperation(backend, ruleOf(rule, layout), operandsOf(layout, seed)),
          );
          const error = worstError(native!, reference!);
          t.true(error < 2e-5, `${JSON.stringify(layout)}: ${error}`);
        },
      ),
      { numRuns: 12 },
    );
  });

  test(`${name}: the gradient agrees with finite differences in double precision`, (t) => {
    for (const [layout, documents] of [
      [layoutOf([2, 5, 1, 2, 3, 4])],
      [layoutOf([1, 9, 2, 1, 4, 3], true), [0, 2, 3]],
      [layoutOf([1, 67, 1, 1, 6, 2], true)],
    ] as const) {
      const all = documents ? { ...layout, documents: Int32Array.from(documents) } : layout;
      const operands = operandsOf(all, 7);
      const expected = finiteDifferences((doubles) => plainRule(rule, all, doubles), operands);
      const error = worstError(runOperation('native', ruleOf(rule, all), operands), expected);
      t.true(error < 1e-5, `${JSON.stringify(all)}: ${error}`);
    }
  });

  test(`${name}: a long sequence with weak and strong decays agrees with double precision`, (t) => {
    for (const aLog of [-4, 0, 3]) {
      const layout = layoutOf([1, 700, 1, 1, 32, 32]);
      const operands = operandsOf(layout);
      operands.aLog!.values.fill(aLog);
      const doubles = Object.fromEntries(
        Object.entries(operands).map(([name, { values }]) => [name, Float64Array.from(values)]),
      );
      const { output } = runOperation('native', ruleOf(rule, layout), operands);
      t.true(largestError(output, plainRule(rule, layout, doubles)) < 1e-6, `aLog ${aLog}`);
    }
  });

  test(`${name}: the number of threads changes no bit`, (t) => {
    const layout = layoutOf([2, 130, 2, 2, 18, 33]);
    t.true(threadsChangeNoBit(ruleOf(rule, layout), operandsOf(layout)));
    const separate = { ...layout, documents: documentsOf(documentLengths(2, 130, 9)) };
    t.true(threadsChangeNoBit(ruleOf(rule, separate), operandsOf(separate)));
  });

  test(`${name}: a document that is kept apart has the bits that it has alone, wherever it begins`, (t) => {
    const lengths = [1, 63, 64, 65, 7];
    const layout = layoutOf([1, 200, 1, 2, 20, 12]);
    const documents = documentsOf(lengths);
    const operands = operandsOf(layout);
    const dy = randomValues(5, 200 * 24);
    const weighed =
      (one: Layout, begin: number): Operation =>
      (parameters) => {
        const y = ruleOf(rule, one)(parameters);
        return tf.sum(tf.mul(y, tf.tensor(dy.slice(begin * 24, begin * 24 + y.size), y.shape)));
      };
    const outcome = (one: Layout, its: typeof operands, begin: number): Record<string, Float32Array> => {
      const { gradients } = runOperation('native', weighed(one, begin), its);
      const ofRows = Object.fromEntries(rule.rows.map((name) => [name, gradients[name]!]));
      return { y: runOperation('native', ruleOf(rule, one), its).output, ...ofRows };
    };
    const all = outcome({ ...layout, documents }, operands, 0);
    for (const [i, begin] of documents.entries()) {
      const end = begin + lengths[i]!;
      const its = { ...operands, ...rowsOf(rule, operands, begin, end) };
      const alone = outcome({ ...layout, sequence: end - begin }, its, begin);
      for (const name of ['y', ...rule.rows]) {
        const width = alone[name]!.length / (end - begin);
        t.deepEqual(all[name]!.slice(begin * width, end * width), alone[name], `${name} from ${begin} on`);
      }
    }
  });

  test(`${name}: a sequence that is cut where chunks end has the bits of the whole one`, (t) => {
    const layout = layoutOf([1, 300, 2, 2, 18, 20], true);
    const operands = operandsOf(layout);
    const whole = inPieces('native', rule, layout, operands, [300]);
    const { output } = runOperation('native', ruleOf(rule, layout), operands);
    t.deepEqual(Float32Array.from(whole.outputs), output);
    for (const cuts of [
      [64, 300],
      [128, 192, 300],
      [DELTA_RULE_CHUNK, 2 * DELTA_RULE_CHUNK, 256, 300],
    ]) {
      t.deepEqual(inPieces('native', rule, layout, operands, cuts), whole);
    }
  });

  test(`${name}: a sequence that is cut anywhere, and one token at a time, is the same to rounding`, (t) => {
    const layout = layoutOf([1, 90, 1, 2, 18, 20], true);
    const operands = operandsOf(layout);
    const whole = inPieces('native', rule, layout, operands, [90]);
    const one = Array.from({ length: 90 }, (_, i) => i + 1);
    for (const cuts of [[13, 90], [1, 2, 77, 90], one]) {
      const pieces = inPieces('native', rule, layout, operands, cuts);
      t.true(largestError(pieces.outputs, whole.outputs) < 2e-6, `${cuts}`);
      t.true(largestError(pieces.state, whole.state) < 2e-6, `${cuts}`);
    }
    const reference = inPieces('cpu', rule, layout, operands, [40, 90]);
    t.true(largestError(reference.outputs, whole.outputs) < 2e-6);
    t.true(largestError(reference.state, whole.state) < 2e-6);
  });

  test(`${name}: logits of any size give finite numbers, and what the definition gives`, (t) => {
    const layout = layoutOf([1, 130, 1, 2, 16, 16]);
    const operands = operandsOf(layout);
    const logits = rule.rows.slice(1);
    for (const name of logits) {
      const { values } = operands[name]!;
      values.forEach((value, i) => {
        values[i] = i % 5 === 0 ? value * 100 : value;
      });
    }
    operands.heads!.values.fill(0, 20 * 64, 22 * 64);
    const [native, reference] = ['native', 'cpu'].map((backend) =>
      runOperation(backend, ruleOf(rule, layout), operands),
    );
    for (const values of [native!.output, ...Object.values(native!.gradients)]) {
      t.true(values.every(Number.isFinite));
    }
    t.true(largestError(native!.output, reference!.output) < 2e-6);
    for (const name of logits)
      t.true(largestError(native!.gradients[name]!, reference!.gradients[name]!) < 1e-5, name);
  });

  test(`${name}: a number that is not finite shows in the output`, (t) => {
    const layout = layoutOf([1, 40, 1, 1, 8, 8]);
    for (const name of ['heads', ...rule.decays]) {
      for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
        const operands = operandsOf(layout);
        // Of the logits those of the decay: an infinite one of β is a β of 1.
        operands[name]!.values[name === 'logits' ? 1 : 0] = bad;
        const { output } = runOperation('native', ruleOf(rule, layout), operands);
        t.false(output.every(Number.isFinite), `${name} ${bad}`);
      }
    }
  });

  test(`${name}: gradients are right where they take the memory of their inputs`, (t) => {
    const layout = layoutOf([1, 140, 1, 2, 18, 20]);
    const operands = operandsOf(layout);
    const plain = runOperation('native', ruleOf(rule, layout), operands);
    t.deepEqual(
      runOperation(
        'native',
        ruleOf(rule, layout, (x) => tf.mul(x, 1)),
        operands,
      ),
      plain,
    );
  });

  test(`${name}: the backward pass works in as much memory as is planned`, (t) => {
    const held = [1024, 4096].map((tokens) => {
      const layout = layoutOf([1, tokens, 1, 2, 20, 40]);
      runOperation('native', ruleOf(rule, layout), operandsOf(layout));
      const sizes = { ...layout, valueHeads: rule === GATED ? 2 : 1 };
      return [callNative('scratchBytes'), 4 * deltaRuleScratch(sizes, tokens, rule === KIMI)] as const;
    });
    const [[before, short], [after, long]] = held as [(typeof held)[0], (typeof held)[0]];
    t.is(after - before, long - short);
  });

  test(`${name}: a gradient of a sequence that is continued is refused`, (t) => {
    tf.setBackend('native');
    const layout = layoutOf([1, 3, 1, 1, 4, 4]);
    const parameters = Object.fromEntries(
      Object.entries(operandsOf(layout)).map(([name, { shape, values }]) => [
        name,
        new Parameter(name, shape, values),
      ]),
    );
    const continued = () => {
      const tensors = Object.fromEntries(rule.rows.map((name) => [name, parameters[name]!.onTape()]));
      return tf.sum(rule.compute(tensors, parameters, layout, new Float32Array(16))) as tf.Scalar;
    };
    t.throws(() => computeGradients(continued), { message: /no gradient/ });
  });
}

/** Relative to the largest magnitude of the expected values. */
function largestError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  const values = Array.from(expected);
  return (
    Math.max(...values.map((value, i) => Math.abs(value - actual[i]!))) / Math.max(...values.map(Math.abs))
  );
}

/** The operands with a row for each token, from the row `begin` to `end`. */
function rowsOf(
  { rows }: Rule,
  operands: Readonly<Record<string, OperandValues>>,
  begin: number,
  end: number,
): Record<string, OperandValues> {
  const cut = rows.map((name) => {
    const { shape, values } = operands[name]!;
    const width = shape[1]!;
    return [name, { shape: [end - begin, width], values: values.slice(begin * width, end * width) }] as const;
  });
  return Object.fromEntries(cut);
}

/** The outputs of pieces that end at `cuts`, joined, and the state after the last. */
function inPieces(
  backend: string,
  rule: Rule,
  layout: Layout,
  operands: Readonly<Record<string, OperandValues>>,
  cuts: readonly number[],
) {
  tf.setBackend(backend);
  const state = new Float32Array(layout.valueHeads * layout.keyDim * layout.valueDim);
  const { aLog, dtBias } = operands as Record<string, OperandValues>;
  const decay = {
    aLog: new Parameter('aLog', aLog!.shape, aLog!.values),
    dtBias: new Parameter('dtBias', dtBias!.shape, dtBias!.values),
  };
  const outputs = [0, ...cuts].slice(0, -1).flatMap((begin, i) => {
    const end = cuts[i]!;
    return tf.tidy(() => {
      const tensors = Object.fromEntries(
        Object.entries(rowsOf(rule, operands, begin, end)).map(([name, { shape, values }]) => [
          name,
          tf.tensor2d(values, shape as [number, number]),
        ]),
      );
      const y = rule.compute(tensors, decay, { ...layout, sequence: end - begin }, state);
      return [...y.dataSync<'float32'>()];
    });
  });
  tf.dispose([decay.aLog.tensor, decay.dtBias.tensor]);
  return { outputs, state };
}

test('without decay, orthogonal keys are kept as they came', (t) => {
  const layout = GATED.layoutOf([1, 16, 1, 1, 16, 16]);
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
  const { state } = inPieces('native', GATED, layout, operands, [16]);
  for (let token = 0; token < 16; token++) {
    const value = heads.slice(token * 48 + 32, token * 48 + 48);
    t.true(relativeError(state.slice(token * 16, token * 16 + 16), value) < 1e-6);
  }
});

test('decays of all channels alike make the Kimi delta rule the gated one', (t) => {
  const layout = GATED.layoutOf([1, 150, 2, 1, 20, 18]);
  const gated = GATED.operandsOf(layout, 3);
  const { heads, logits, aLog, dtBias } = gated as Record<string, OperandValues>;
  const [tokens, count, channels] = [150, 2, 20];
  const repeated = (rows: number, value: (row: number, head: number) => number) =>
    Float32Array.from({ length: rows * count * channels }, (_, i) =>
      value(Math.floor(i / (count * channels)), Math.floor(i / channels) % count),
    );
  const operands = {
    ...{ heads: heads!, aLog: aLog! },
    beta: {
      shape: [tokens, count],
      values: Float32Array.from(
        { length: tokens * count },
        (_, i) => logits!.values[Math.floor(i / count) * 2 * count + (i % count)]!,
      ),
    },
    decay: {
      shape: [tokens, count * channels],
      values: repeated(tokens, (row, head) => logits!.values[(row * 2 + 1) * count + head]!),
    },
    dtBias: {
      shape: [count * channels],
      values: repeated(1, (_, head) => dtBias!.values[head]!),
    },
  };
  const expected = runOperation('native', ruleOf(GATED, layout), gated);
  const kimi = runOperation('native', ruleOf(KIMI, layout), operands);
  t.true(largestError(kimi.output, expected.output) < 1e-6);
  t.true(largestError(kimi.gradients.heads!, expected.gradients.heads!) < 5e-6);
  t.true(largestError(kimi.gradients.aLog!, expected.gradients.aLog!) < 2e-5);
});
