/**
 * How far the fused operations, at the widths, depths and lengths of the training shapes, are from double precision: outputs
 * and gradients, the largest difference relative to the largest expected magnitude. `docs/performance.md` quotes what this
 * prints.
 */

import {
  type AttentionLayout,
  type DeltaRuleLayout,
  expertFeedForward,
  gatedAttention,
  gatedDeltaRule,
  gatedFeedForward,
  linear,
  linearCrossEntropy,
  type Parameter,
  rmsNorm,
} from '@sluice/engine';
import type * as tf from '@tensorflow/tfjs';
import test, { type ExecutionContext } from 'ava';
import {
  type Operands,
  type Operation,
  type Outcome,
  operand,
  randomValues,
  relativeError,
  runOperation,
} from './support/differential.ts';

/** As the doubles of this file name their arrays. */
type Doubles = Readonly<Record<string, Float64Array>>;
type Computed = { readonly output: Float64Array; readonly gradients: Doubles };

const onTape = (parameter: Parameter | undefined) => parameter!.onTape() as tf.Tensor2D;

/** a[rows × depth] · b[columns × depth]ᵀ, or with a, b or both turned first. */
function product(
  a: Float64Array,
  b: Float64Array,
  [rows, depth, columns]: readonly [number, number, number],
  turned: { a?: boolean; b?: boolean } = {},
): Float64Array {
  const result = new Float64Array(rows * columns);
  for (let i = 0; i < rows; i++) {
    for (let k = 0; k < depth; k++) {
      const x = turned.a ? a[k * rows + i]! : a[i * depth + k]!;
      for (let j = 0; j < columns; j++) {
        result[i * columns + j]! += x * (turned.b ? b[k * columns + j]! : b[j * depth + k]!);
      }
    }
  }
  return result;
}

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
const doublesOf = (operands: Operands): Doubles =>
  Object.fromEntries(Object.entries(operands).map(([name, { values }]) => [name, Float64Array.from(values)]));
/** The gradient of the output that `runOperation` begins with. */
const outputGradient = (length: number) => Float64Array.from(randomValues(99, length));

/** Prints the errors of an operation on `native` and demands that none is above the bound. */
function isAccurate(
  t: ExecutionContext,
  name: string,
  operation: Operation,
  operands: Operands,
  expected: Computed,
  bound: number,
) {
  const actual: Outcome = runOperation('native', operation, operands);
  const errors = {
    output: relativeError(actual.output, expected.output),
    ...Object.fromEntries(
      Object.entries(expected.gradients).map(([of, values]) => [
        of,
        relativeError(actual.gradients[of]!, values),
      ]),
    ),
  };
  const shown = Object.entries(errors).map(([of, error]) => `${of} ${error.toExponential(1)}`);
  t.log(`${name}: ${shown.join(', ')}`);
  t.true(Math.max(...Object.values(errors)) < bound, shown.join(', '));
}

test('linear layers', (t) => {
  for (const [inputs, outputs] of [
    [256, 1024],
    [1408, 512],
  ] as const) {
    const rows = 24;
    const operands = { x: operand(1, [rows, inputs]), weight: operand(2, [outputs, inputs], 0.1) };
    const { x, weight } = doublesOf(operands) as { x: Float64Array; weight: Float64Array };
    const dy = outputGradient(rows * outputs);
    isAccurate(
      t,
      `${inputs} → ${outputs}`,
      (p) => linear(onTape(p.x), p.weight!),
      operands,
      {
        output: product(x, weight, [rows, inputs, outputs]),
        gradients: {
          x: product(dy, weight, [rows, outputs, inputs], { b: true }),
          weight: product(dy, x, [outputs, rows, inputs], { a: true, b: true }),
        },
      },
      2e-6,
    );
  }
});

/** SwiGLU of rows of `x`, and its gradients. */
function feedForward(
  { x, gateUp, down }: { x: Float64Array; gateUp: Float64Array; down: Float64Array },
  [rows, channels, units]: readonly [number, number, number],
  dy: Float64Array,
): Computed {
  const before = product(x, gateUp, [rows, channels, 2 * units]);
  const hidden = new Float64Array(rows * units);
  const dHidden = product(dy, down, [rows, channels, units], { b: true });
  const dBefore = new Float64Array(before.length);
  for (let n = 0; n < rows; n++) {
    for (let f = 0; f < units; f++) {
      const [at, gateAt, upAt] = [n * units + f, 2 * n * units + f, (2 * n + 1) * units + f];
      const [gate, up] = [before[gateAt]!, before[upAt]!];
      const s = sigmoid(gate);
      hidden[at] = gate * s * up;
      dBefore[gateAt] = dHidden[at]! * up * (s + gate * s * (1 - s));
      dBefore[upAt] = dHidden[at]! * gate * s;
    }
  }
  return {
    output: product(hidden, down, [rows, units, channels]),
    gradients: {
      x: product(dBefore, gateUp, [rows, 2 * units, channels], { b: true }),
      gateUp: product(dBefore, x, [2 * units, rows, channels], { a: true, b: true }),
      down: product(dy, hidden, [channels, rows, units], { a: true, b: true }),
    },
  };
}

test('feed-forward', (t) => {
  const [rows, channels, units] = [24, 256, 704];
  const operands = {
    x: operand(1, [rows, channels]),
    gateUp: operand(2, [2 * units, channels], 0.1),
    down: operand(3, [channels, units], 0.1),
  };
  const doubles = doublesOf(operands) as Parameters<typeof feedForward>[0];
  isAccurate(
    t,
    '256 → 704 → 256',
    (p) => gatedFeedForward(onTape(p.x), p.gateUp!, p.down!),
    operands,
    feedForward(doubles, [rows, channels, units], outputGradient(rows * channels)),
    2e-6,
  );
});

test('experts', (t) => {
  const [rows, channels, units, experts] = [20, 256, 192, 3];
  const operands = {
    x: operand(1, [experts * rows, channels]),
    gateUp: operand(2, [experts, 2 * units, channels], 0.1),
    down: operand(3, [experts, channels, units], 0.1),
  };
  const all = doublesOf(operands);
  const dy = outputGradient(experts * rows * channels);
  const part = (values: Float64Array, index: number) =>
    values.subarray((index * values.length) / experts, ((index + 1) * values.length) / experts);
  const parts = Array.from({ length: experts }, (_, e) => {
    const own = { x: part(all.x!, e), gateUp: part(all.gateUp!, e), down: part(all.down!, e) };
    return feedForward(own, [rows, channels, units], part(dy, e));
  });
  const joined = (of: (computed: Computed) => Float64Array) =>
    Float64Array.from(parts.flatMap((computed) => [...of(computed)]));
  const segments = parts.map((_, expert) => ({ source: 0, expert, begin: expert * rows, count: rows }));
  isAccurate(
    t,
    '3 experts, 256 → 192 → 256',
    (p) => expertFeedForward(onTape(p.x), segments, p.gateUp!, p.down!, 1),
    operands,
    {
      output: joined(({ output }) => output),
      gradients: {
        x: joined(({ gradients }) => gradients.x!),
        gateUp: joined(({ gradients }) => gradients.gateUp!),
        down: joined(({ gradients }) => gradients.down!),
      },
    },
    2e-6,
  );
});

test('output layer and cross-entropy', (t) => {
  const [tokens, channels, vocabulary] = [16, 256, 8192];
  const operands = { x: operand(1, [tokens, channels]), weight: operand(2, [vocabulary, channels], 0.3) };
  const { x, weight } = doublesOf(operands) as { x: Float64Array; weight: Float64Array };
  const targets = Int32Array.from({ length: tokens }, (_, n) => (n * 523) % vocabulary);
  const scale = 1 / tokens;
  const dLogits = product(x, weight, [tokens, channels, vocabulary]);
  let loss = 0;
  targets.forEach((target, n) => {
    const row = dLogits.subarray(n * vocabulary, (n + 1) * vocabulary);
    const highest = row.reduce((a, b) => Math.max(a, b));
    const total = row.reduce((sum, logit) => sum + Math.exp(logit - highest), 0);
    loss += scale * (Math.log(total) + highest - row[target]!);
    row.forEach((logit, v) => {
      row[v] = scale * (Math.exp(logit - highest) / total - (v === target ? 1 : 0));
    });
  });
  isAccurate(
    t,
    '256 → 8192',
    (p) => linearCrossEntropy(onTape(p.x), p.weight!, targets, { scale }),
    operands,
    {
      output: Float64Array.of(loss),
      gradients: {
        x: product(dLogits, weight, [tokens, vocabulary, channels], { b: true }),
        weight: product(dLogits, x, [vocabulary, tokens, channels], { a: true, b: true }),
      },
    },
    2e-6,
  );
});

/** Attention of one head with an elementwise gate, and its gradients. */
function attention(
  { q, k, v, gate }: Record<'q' | 'k' | 'v' | 'gate', Float64Array>,
  [length, headDim]: readonly [number, number],
  dy: Float64Array,
): Computed {
  const scale = 1 / Math.sqrt(headDim);
  const weights = product(q, k, [length, headDim, length]);
  for (let i = 0; i < length; i++) {
    const row = weights.subarray(i * length, (i + 1) * length);
    const seen = row.subarray(0, i + 1);
    const highest = seen.reduce((a, b) => Math.max(a, b));
    const total = seen.reduce((sum, score) => sum + Math.exp(scale * (score - highest)), 0);
    row.forEach((score, j) => {
      row[j] = j > i ? 0 : Math.exp(scale * (score - highest)) / total;
    });
  }
  const mean = product(weights, v, [length, length, headDim], { b: true });
  const open = gate.map(sigmoid);
  const dMean = dy.map((value, at) => value * open[at]!);
  const dScores = product(dMean, v, [length, headDim, length]);
  for (let i = 0; i < length; i++) {
    let inner = 0;
    for (let c = 0; c < headDim; c++) inner += dMean[i * headDim + c]! * mean[i * headDim + c]!;
    for (let j = 0; j < length; j++) {
      const at = i * length + j;
      dScores[at] = scale * weights[at]! * (dScores[at]! - inner);
    }
  }
  return {
    output: mean.map((value, at) => value * open[at]!),
    gradients: {
      q: product(dScores, k, [length, length, headDim], { b: true }),
      k: product(dScores, q, [length, length, headDim], { a: true, b: true }),
      v: product(weights, dMean, [length, length, headDim], { a: true, b: true }),
      gate: dy.map((value, at) => value * mean[at]! * open[at]! * (1 - open[at]!)),
    },
  };
}

test('gated attention', (t) => {
  for (const [length, headDim] of [
    [512, 32],
    [1024, 64],
  ] as const) {
    const layout: AttentionLayout = {
      batch: 1,
      sequence: length,
      heads: 1,
      keyValueHeads: 1,
      headDim,
      gate: 'elementwise',
      epsilon: 1e-6,
    };
    const operands = {
      q: operand(1, [length, headDim], 2),
      k: operand(2, [length, headDim], 2),
      v: operand(3, [length, headDim]),
      gate: operand(4, [length, headDim], 4),
    };
    isAccurate(
      t,
      `${length} tokens, head ${headDim}`,
      (p) => gatedAttention(onTape(p.q), onTape(p.k), onTape(p.v), onTape(p.gate), layout),
      operands,
      attention(
        doublesOf(operands) as Parameters<typeof attention>[0],
        [length, headDim],
        outputGradient(length * headDim),
      ),
      4e-6,
    );
  }
});

/** The gated delta rule of one head as a recurrence, and its gradients, through its steps from the last to the first. */
function deltaRule(
  { heads, logits, aLog, dtBias }: Record<'heads' | 'logits' | 'aLog' | 'dtBias', Float64Array>,
  [length, dim]: readonly [number, number],
  dy: Float64Array,
): Computed {
  const dot = (a: Float64Array, b: Float64Array) => a.reduce((sum, value, i) => sum + value * b[i]!, 0);
  const [rate, scale] = [Math.exp(aLog[0]!), dim ** -0.5];
  const output = new Float64Array(length * dim);
  let state = new Float64Array(dim * dim);
  const steps = Array.from({ length }, (_, token) => {
    const part = (i: number) => heads.slice((3 * token + i) * dim, (3 * token + i + 1) * dim);
    const [x, y, v] = [part(0), part(1), part(2)] as const;
    const [lengthX, lengthY] = [Math.sqrt(dot(x, x) + 1e-6), Math.sqrt(dot(y, y) + 1e-6)];
    const [q, k] = [x.map((value) => (value / lengthX) * scale), y.map((value) => value / lengthY)];
    const a = logits[2 * token + 1]! + dtBias[0]!;
    const [beta, g] = [sigmoid(logits[2 * token]!), -rate * Math.log1p(Math.exp(a))];
    const before = state.map((value) => value * Math.exp(g));
    const rest = v.map((value, c) => value - k.reduce((sum, one, i) => sum + one * before[i * dim + c]!, 0));
    const u = rest.map((value) => beta * value);
    state = before.map((value, at) => value + k[Math.floor(at / dim)]! * u[at % dim]!);
    for (let i = 0; i < dim; i++)
      for (let c = 0; c < dim; c++) output[token * dim + c]! += q[i]! * state[i * dim + c]!;
    return { q, k, lengthX, lengthY, a, beta, g, before, rest, u, after: state };
  });
  const dHeads = new Float64Array(heads.length);
  const dLogits = new Float64Array(logits.length);
  const [dALog, dDtBias] = [new Float64Array(1), new Float64Array(1)];
  const dState = new Float64Array(dim * dim);
  for (const [token, step] of [...steps.entries()].reverse()) {
    const { q, k, lengthX, lengthY, a, beta, g, before, rest, u, after } = step;
    const dO = dy.subarray(token * dim, (token + 1) * dim);
    const [dq, dk, du] = [new Float64Array(dim), new Float64Array(dim), new Float64Array(dim)];
    for (let i = 0; i < dim; i++) {
      for (let c = 0; c < dim; c++) {
        const at = i * dim + c;
        dState[at]! += q[i]! * dO[c]!;
        dq[i]! += after[at]! * dO[c]!;
        dk[i]! += dState[at]! * u[c]!;
        du[c]! += dState[at]! * k[i]!;
      }
    }
    let dG = 0;
    for (let i = 0; i < dim; i++) {
      for (let c = 0; c < dim; c++) {
        const at = i * dim + c;
        dk[i]! -= beta * before[at]! * du[c]!;
        dState[at]! -= beta * k[i]! * du[c]!;
        dG += dState[at]! * before[at]!;
        dState[at]! *= Math.exp(g);
      }
    }
    const slope = -dG * rate * sigmoid(a);
    dLogits.set([dot(du, rest) * beta * (1 - beta), slope], 2 * token);
    dALog[0]! += dG * g;
    dDtBias[0]! += slope;
    const place = (i: number, values: Float64Array) => dHeads.set(values, (3 * token + i) * dim);
    const unitQ = q.map((value) => value / scale);
    place(
      0,
      dq.map((value, i) => (scale * (value - unitQ[i]! * dot(unitQ, dq))) / lengthX),
    );
    place(
      1,
      dk.map((value, i) => (value - k[i]! * dot(k, dk)) / lengthY),
    );
    place(
      2,
      du.map((value) => beta * value),
    );
  }
  return { output, gradients: { heads: dHeads, logits: dLogits, aLog: dALog, dtBias: dDtBias } };
}

test('gated delta rule', (t) => {
  for (const [length, dim, aLog] of [
    [512, 32, 0],
    [300, 64, -3],
  ] as const) {
    const layout: DeltaRuleLayout = {
      ...{ batch: 1, sequence: length, keyHeads: 1, valueHeads: 1, keyDim: dim, valueDim: dim },
      allowNegativeEigenvalues: false,
    };
    const operands = {
      heads: operand(1, [length, 3 * dim], 2),
      logits: operand(2, [length, 2], 3),
      aLog: { shape: [1], values: Float32Array.of(aLog) },
      dtBias: operand(4, [1]),
    };
    isAccurate(
      t,
      `${length} tokens, head ${dim}, decay rate e^${aLog}`,
      (p) => gatedDeltaRule(onTape(p.heads), onTape(p.logits), { aLog: p.aLog!, dtBias: p.dtBias! }, layout),
      operands,
      deltaRule(
        doublesOf(operands) as Parameters<typeof deltaRule>[0],
        [length, dim],
        outputGradient(length * dim),
      ),
      // Those of the decay's parameters are one sum over all tokens, of terms of both signs.
      1e-5,
    );
  }
});

test('RMS norm', (t) => {
  const [rows, width] = [40, 512];
  const operands = { x: operand(1, [rows, width], 3), weight: operand(2, [width]) };
  const { x, weight } = doublesOf(operands) as { x: Float64Array; weight: Float64Array };
  const dy = outputGradient(rows * width);
  const [output, dx, dWeight] = [
    new Float64Array(x.length),
    new Float64Array(x.length),
    new Float64Array(width),
  ];
  for (let row = 0; row < rows; row++) {
    const at = (c: number) => row * width + c;
    let [squares, inner] = [0, 0];
    for (let c = 0; c < width; c++) squares += x[at(c)]! ** 2;
    const inverse = 1 / Math.sqrt(squares / width + 1e-6);
    for (let c = 0; c < width; c++) inner += dy[at(c)]! * weight[c]! * x[at(c)]!;
    for (let c = 0; c < width; c++) {
      output[at(c)] = x[at(c)]! * inverse * weight[c]!;
      dx[at(c)] = inverse * (dy[at(c)]! * weight[c]! - (x[at(c)]! * inner * inverse ** 2) / width);
      dWeight[c]! += dy[at(c)]! * x[at(c)]! * inverse;
    }
  }
  isAccurate(
    t,
    '512 channels',
    (p) => rmsNorm(onTape(p.x), p.weight!, 1e-6),
    operands,
    { output, gradients: { x: dx, weight: dWeight } },
    2e-6,
  );
});
