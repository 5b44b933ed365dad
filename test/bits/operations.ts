/**
 * Every fused operation, forward and backward, on fixed inputs of sizes that fill no vector and cross every block. What comes
 * out must be the same bits in every build of the core.
 */

import {
  type AttentionLayout,
  adamW,
  addRounded,
  attentionHeads,
  attentionStatistics,
  cachedAttention,
  combineTokens,
  dispatchTokens,
  embedding,
  expertFeedForward,
  gatedAttention,
  gatedDeltaRule,
  gatedFeedForward,
  gateHeads,
  gateWidth,
  kimiDeltaRule,
  linear,
  linearCrossEntropy,
  Muon,
  muonScratchElements,
  Parameter,
  planDispatch,
  projectionWidth,
  type RoutingOptions,
  rmsNorm,
  rotaryEmbedding,
  rotaryTable,
  roundToBfloat16,
  routeExperts,
  shortConvolution,
  squaredNorms,
  sumTree,
  sumTreeBfloat16,
} from '@sluice/engine';
import * as tf from '@tensorflow/tfjs';
import {
  type Operands,
  type Operation,
  operand,
  randomValues,
  runOperation,
} from '../engine/support/differential.ts';

type Results = readonly ArrayBufferView[];

/** The output and the gradients of all operands. */
function outcome(operation: Operation, operands: Operands, sources = 1): Results {
  const { output, gradients } = runOperation('native', operation, operands, sources);
  return [output, ...Object.keys(gradients).map((name) => gradients[name]!)];
}

const matrix = (values: Float32Array, columns: number) =>
  tf.tensor2d(values, [values.length / columns, columns]);

/** Numbers below `limit` that depend on `seed`. */
const indices = (seed: number, count: number, limit: number) =>
  Int32Array.from(randomValues(seed, count), (value) =>
    Math.min(limit - 1, Math.floor(((value + 1) / 2) * limit)),
  );

const attentionLayout = (
  [sequence, keyValueHeads, group, headDim]: readonly [number, number, number, number],
  gate: AttentionLayout['gate'],
): AttentionLayout => {
  return { batch: 2, sequence, heads: keyValueHeads * group, keyValueHeads, headDim, gate, epsilon: 1e-6 };
};

const ATTENTION_SHAPES = [
  attentionLayout([150, 2, 2, 32], 'elementwise'),
  attentionLayout([97, 1, 3, 18], 'headwise'),
  attentionLayout([130, 1, 1, 128], 'none'),
  attentionLayout([70, 1, 9, 64], 'elementwise'),
];

/** Documents of one token, of a tile's border and across it, that end within sequences and with them. */
const separated = (layout: AttentionLayout): AttentionLayout => {
  const { sequence } = layout;
  const documents = Int32Array.from([0, 1, 18, 66, sequence, sequence + 5, sequence + 64]);
  return { ...layout, documents };
};

function attention(layout: AttentionLayout, seed: number): Results {
  const { batch, sequence, heads, keyValueHeads, headDim } = layout;
  const rows = batch * sequence;
  const operands = {
    q: operand(seed, [rows, heads * headDim], 3),
    k: operand(seed + 1, [rows, keyValueHeads * headDim], 2),
    v: operand(seed + 2, [rows, keyValueHeads * headDim]),
    ...(layout.gate !== 'none' && { gate: operand(seed + 3, [rows, gateWidth(layout)], 5) }),
  };
  return outcome(({ q, k, v, gate }) => {
    const [q_N, k_N, v_N, gate_N] = [q!, k!, v!, gate].map((one) => one?.onTape() as tf.Tensor2D);
    return gatedAttention(q_N!, k_N!, v_N!, gate_N, layout);
  }, operands);
}

function heads(layout: AttentionLayout, seed: number): Results {
  const rotary = rotaryTable(layout.sequence, layout.headDim, 10_000);
  const operands = {
    projection: operand(seed, [layout.batch * layout.sequence, projectionWidth(layout)], 2),
    qNorm: operand(seed + 1, [layout.headDim]),
    kNorm: operand(seed + 2, [layout.headDim]),
  };
  return outcome(({ projection, qNorm, kNorm }) => {
    const { q, k, v, gate } = attentionHeads(
      projection!.onTape() as tf.Tensor2D,
      qNorm!,
      kNorm!,
      rotary,
      layout,
    );
    return tf.concat(gate ? [q, k, v, gate] : [q, k, v], 1);
  }, operands);
}

function cached(layout: AttentionLayout, seed: number): Results {
  const one = { ...layout, batch: 1, sequence: 3 };
  const past = 61;
  const [width, keyWidth] = [layout.heads * layout.headDim, layout.keyValueHeads * layout.headDim];
  const keys = randomValues(seed, (past + 3) * keyWidth, 2);
  const values = randomValues(seed + 1, (past + 3) * keyWidth);
  const y = tf.tidy(() => {
    const gates = gateWidth(layout);
    const gate = gates === 0 ? undefined : matrix(randomValues(seed + 3, 3 * gates, 4), gates);
    const q = matrix(randomValues(seed + 2, 3 * width, 2), width);
    return cachedAttention(q, { keys, values, tokens: past + 3 }, gate, one)
      .dataSync()
      .slice();
  });
  return [y];
}

/** Heads that fill vectors and such that do not; states that decay at once and such that hardly do. */
function deltaRule(documents?: Int32Array): Results {
  return [
    { keyHeads: 1, valueHeads: 1, keyDim: 128, valueDim: 128, allowNegativeEigenvalues: false },
    { keyHeads: 2, valueHeads: 6, keyDim: 18, valueDim: 37, allowNegativeEigenvalues: true },
  ].flatMap((heads, i) => {
    const layout = { ...heads, batch: 2, sequence: 150, documents };
    const width = 2 * heads.keyHeads * heads.keyDim + heads.valueHeads * heads.valueDim;
    const operands = {
      heads: operand(10 * i + 1, [300, width], 2),
      logits: operand(10 * i + 2, [300, 2 * heads.valueHeads], 4),
      aLog: operand(10 * i + 3, [heads.valueHeads], 2),
      dtBias: operand(10 * i + 4, [heads.valueHeads], 2),
    };
    return outcome(({ heads, logits, aLog, dtBias }) => {
      const [heads_NW, logits_N2V] = [heads!.onTape() as tf.Tensor2D, logits!.onTape() as tf.Tensor2D];
      return gatedDeltaRule(heads_NW, logits_N2V, { aLog: aLog!, dtBias: dtBias! }, layout);
    }, operands);
  });
}

function kimiRule(documents?: Int32Array): Results {
  return [
    { heads: 1, keyDim: 128, valueDim: 128 },
    { heads: 3, keyDim: 18, valueDim: 37 },
  ].flatMap((sizes, i) => {
    const layout = { ...sizes, batch: 2, sequence: 150, documents };
    const { heads, keyDim, valueDim } = sizes;
    const operands = {
      heads: operand(10 * i + 1, [300, heads * (2 * keyDim + valueDim)], 2),
      beta: operand(10 * i + 2, [300, heads], 4),
      decay: operand(10 * i + 3, [300, heads * keyDim], 4),
      aLog: operand(10 * i + 4, [heads], 2),
      dtBias: operand(10 * i + 5, [heads * keyDim], 2),
    };
    return outcome(({ heads, beta, decay, aLog, dtBias }) => {
      const tensors = [heads, beta, decay].map((one) => one!.onTape() as tf.Tensor2D);
      const inputs = { heads: tensors[0]!, beta: tensors[1]!, decay: tensors[2]! };
      return kimiDeltaRule(inputs, { aLog: aLog!, dtBias: dtBias! }, layout);
    }, operands);
  });
}

function router(normalizeTopK: boolean, kind: Partial<RoutingOptions> = {}): Results {
  const [tokens, channels, experts] = [150, 40, 21];
  const loads = randomValues(3, experts).map((value) => (1 + value) / experts);
  const routing = {
    topK: 4,
    normalizeTopK,
    balanceCoefficient: 0.5,
    zCoefficient: 0.3,
    loads,
    totalTokens: tokens,
    ...kind,
  };
  const operands = { x: operand(1, [tokens, channels]), router: operand(2, [experts, channels]) };
  return outcome(({ x, router: weight }) => {
    const { weights_NK, auxiliaryLoss } = routeExperts(x!.onTape() as tf.Tensor2D, weight!, routing);
    return tf.concat([tf.reshape(weights_NK, [-1]), tf.reshape(auxiliaryLoss, [1])]);
  }, operands);
}

function experts(limit?: number): Results {
  const [channels, units] = [41, 27];
  const counts = [130, 0, 7, 61];
  let begin = 0;
  const segments = counts.map((count, expert) => {
    begin += count;
    return { expert, source: 0, begin: begin - count, count };
  });
  const operands = {
    x: operand(1, [begin, channels]),
    gateUp: operand(2, [counts.length, 2 * units, channels]),
    down: operand(3, [counts.length, channels, units]),
  };
  return outcome(
    ({ x, gateUp, down }) =>
      expertFeedForward(x!.onTape() as tf.Tensor2D, segments, gateUp!, down!, 1, limit),
    operands,
  );
}

function feedForward(limit?: number): Results {
  return outcome(
    ({ x, gateUp, down }) => gatedFeedForward(x!.onTape() as tf.Tensor2D, gateUp!, down!, limit),
    {
      x: operand(1, [150, 37], 2),
      gateUp: operand(2, [2 * 55, 37]),
      down: operand(3, [37, 55]),
    },
  );
}

function dispatch(): Results {
  const [tokens, topK, width] = [37, 3, 45];
  const chosen = Int32Array.from({ length: tokens * topK }, (_, slot) => (slot * 7 + (slot % topK)) % 11);
  const plan = planDispatch(tf.tensor2d(chosen, [tokens, topK], 'int32'), 11);
  const operands = { x: operand(1, [tokens, width]), weights: operand(2, [tokens, topK]) };
  return outcome(({ x, weights }) => {
    const rows = dispatchTokens(x!.onTape() as tf.Tensor2D, plan);
    return combineTokens(tf.square(rows) as tf.Tensor2D, weights!.onTape() as tf.Tensor2D, plan);
  }, operands);
}

function optimizer(): Results {
  const length = 10_007;
  const state = {
    parameters: randomValues(1, length),
    firstMoment: randomValues(2, length, 0.1),
    secondMoment: randomValues(3, length, 0.01).map(Math.abs),
  };
  const sums = new Float64Array(2 * Math.ceil(length / 4096));
  for (const step of [1, 2, 700]) {
    const gradients = randomValues(10 + step, length, 3);
    adamW(
      { ...state, gradients },
      {
        learningRate: 0.02,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weightDecay: 0.1,
        step,
        gradientScale: 0.7,
      },
      sums,
    );
  }
  return [state.parameters, state.firstMoment, state.secondMoment, sums];
}

/** A wide and a tall matrix, of several blocks of depth and of elements. */
function muon(): Results {
  return [
    { rows: 37, columns: 600 },
    { rows: 150, columns: 53 },
  ].flatMap(({ rows, columns }) => {
    const length = rows * columns;
    const matrix = { parameters: randomValues(1, length), momentum: randomValues(2, length, 0.1) };
    const sums = new Float64Array(2 * Math.ceil(length / 4096));
    const settings = {
      ...{ rows, columns, learningRate: 0.02, momentumDecay: 0.95, iterations: 5 },
      ...{ weightDecay: 0.1, gradientScale: 0.7 },
    };
    const optimizer = new Muon(muonScratchElements([settings]));
    for (const step of [1, 2]) {
      optimizer.update({ ...matrix, gradients: randomValues(10 + step, length, 3) }, settings, sums);
    }
    return [matrix.parameters, matrix.momentum, sums];
  });
}

/** Logits of any size, also where the exponential is clamped. */
function softmax(): Results {
  const values = randomValues(1, 60 * 37, 60).map((value, i) => (i % 50 === 0 ? value * 4 : value));
  return [tf.tidy(() => tf.softmax(matrix(values, 37)).dataSync().slice())];
}

function plainOperations(): Results {
  const x = randomValues(1, 33 * 29, 20);
  const positive = x.map((value) => Math.abs(value) + 0.01);
  return tf.tidy(() => {
    const [a, b] = [matrix(x, 29), matrix(positive, 29)];
    const results = [
      tf.sigmoid(a),
      tf.relu(a),
      tf.sqrt(b),
      tf.rsqrt(b),
      tf.square(a),
      tf.div(a, b),
      tf.mul(a, b),
      tf.sum(a, 0),
      tf.sum(a, 1),
      tf.mean(a),
    ];
    return results.map((result) => result.dataSync().slice());
  });
}

function statistics(layout: AttentionLayout): Results {
  const rows = layout.batch * layout.sequence;
  const q = randomValues(1, rows * layout.heads * layout.headDim, 2);
  const k = randomValues(2, rows * layout.keyValueHeads * layout.headDim, 2);
  const numbers = attentionStatistics({ q, k, layout, sinks: randomValues(3, layout.heads, 3) });
  return [
    Float64Array.from(
      numbers.flatMap((one) => [one.firstToken, one.firstQuery, one.largestLogit, one.entropy]),
    ),
  ];
}

function largest(layout: AttentionLayout): Results {
  const rows = layout.batch * layout.sequence;
  const [q, k, v] = [layout.heads, layout.keyValueHeads, layout.keyValueHeads].map((heads, i) =>
    matrix(randomValues(i + 1, rows * heads * layout.headDim, 2), heads * layout.headDim),
  ) as [tf.Tensor2D, tf.Tensor2D, tf.Tensor2D];
  let told = new Float32Array();
  tf.tidy(() =>
    gatedAttention(q, k, v, undefined, { ...layout, gate: 'none' }, (largest) => {
      told = largest.slice();
    }),
  );
  tf.dispose([q, k, v]);
  return [told];
}

function crossEntropy(
  [tokens, channels, vocabulary]: readonly [number, number, number],
  cap?: number,
): Results {
  const targets = indices(5, tokens, vocabulary).map((target, n) => (n % 9 === 0 ? -1 : target));
  const operands = {
    x: operand(1, [tokens, channels], 2),
    weight: operand(2, [vocabulary, channels], 2),
  };
  return outcome(
    ({ x, weight }) =>
      linearCrossEntropy(x!.onTape() as tf.Tensor2D, weight!, targets, { scale: 1 / tokens, cap }),
    operands,
  );
}

/** By name, what each operation gives. */
export const OPERATIONS: Readonly<Record<string, () => Results>> = {
  linear: () =>
    [
      [3, 50, 1100],
      [61, 530, 47],
      [200, 33, 90],
    ].flatMap(([rows, inputs, outputs]) =>
      outcome(({ x, weight }) => linear(x!.onTape() as tf.Tensor2D, weight!), {
        x: operand(1, [rows!, inputs!]),
        weight: operand(2, [outputs!, inputs!]),
      }),
    ),
  matMul: () =>
    outcome(({ a, b }) => tf.matMul(a!.onTape(), b!.onTape(), false, true), {
      a: operand(1, [3, 41, 70]),
      b: operand(2, [3, 53, 70]),
    }),
  embedding: () =>
    outcome(({ weight }) => embedding(indices(1, 300, 31), weight!), { weight: operand(2, [31, 77]) }),
  rmsNorm: () =>
    [1, 5, 16, 100, 256].flatMap((width) =>
      outcome(({ x, weight }) => rmsNorm(x!.onTape() as tf.Tensor2D, weight!, 1e-6), {
        x: operand(1, [130, width], 3),
        weight: operand(2, [width]),
      }),
    ),
  rotaryEmbedding: () =>
    outcome(
      ({ x }) =>
        rotaryEmbedding(x!.onTape() as tf.Tensor2D, rotaryTable(97, 18, 10_000), ATTENTION_SHAPES[1]!),
      { x: operand(1, [2 * 97, 3 * 18]) },
    ),
  attentionHeads: () => ATTENTION_SHAPES.flatMap((layout, i) => heads(layout, 10 * i)),
  'attentionHeads of separate documents': () =>
    ATTENTION_SHAPES.flatMap((layout, i) => heads(separated(layout), 10 * i)),
  gatedAttention: () => ATTENTION_SHAPES.flatMap((layout, i) => attention(layout, 10 * i)),
  'gatedAttention of separate documents': () =>
    ATTENTION_SHAPES.flatMap((layout, i) => attention(separated(layout), 10 * i)),
  'gatedAttention in a window': () =>
    [100, 33, 1, 70].flatMap((window, i) => attention({ ...ATTENTION_SHAPES[i]!, window }, 10 * i)),
  'gatedAttention in a window of separate documents': () =>
    [64, 33, 1, 20].flatMap((window, i) => attention({ ...separated(ATTENTION_SHAPES[i]!), window }, 10 * i)),
  'cachedAttention in a window': () =>
    ATTENTION_SHAPES.flatMap((layout, i) => cached({ ...layout, window: 20 }, 10 * i)),
  cachedAttention: () => ATTENTION_SHAPES.flatMap((layout, i) => cached(layout, 10 * i)),
  largestLogits: () => ATTENTION_SHAPES.flatMap(largest),
  'largestLogits of separate documents': () => ATTENTION_SHAPES.map(separated).flatMap(largest),
  attentionStatistics: () => ATTENTION_SHAPES.flatMap(statistics),
  'attentionStatistics of separate documents': () => ATTENTION_SHAPES.map(separated).flatMap(statistics),
  shortConvolution: () =>
    (['none', 'silu'] as const).flatMap((activation, i) =>
      outcome(
        ({ x, weight }) =>
          shortConvolution(x!.onTape() as tf.Tensor2D, weight!, {
            ...{ batch: 2, sequence: 100, activation },
            documents: Int32Array.of(0, 1, 31, 100, 102),
          }),
        { x: operand(1, [200, 77], 3), weight: operand(2, [77, 1, 4 + 3 * i]) },
      ),
    ),
  gatedDeltaRule: () => deltaRule(),
  'gatedDeltaRule of separate documents': () => deltaRule(Int32Array.of(0, 1, 31, 150, 152)),
  kimiDeltaRule: () => kimiRule(),
  'kimiDeltaRule of separate documents': () => kimiRule(Int32Array.of(0, 1, 31, 150, 152)),
  gateHeads: () =>
    [true, false].flatMap((isHeadwise) =>
      (['sigmoid', 'silu'] as const).flatMap((activation, i) =>
        outcome(
          ({ y, logits }) =>
            gateHeads(y!.onTape() as tf.Tensor2D, logits!.onTape() as tf.Tensor2D, {
              heads: 3,
              channels: 21,
              activation,
              isShared: i === 1,
            }),
          { y: operand(1, [50, 63]), logits: operand(2, [50, 3 * (isHeadwise ? 1 : 21)], 4) },
        ),
      ),
    ),
  gatedFeedForward: () => feedForward(),
  'gatedFeedForward of limited units': () => feedForward(1.5),
  routeExperts: () => [true, false].flatMap((normalizeTopK) => router(normalizeTopK)),
  'routeExperts by biased sigmoids': () => {
    const bias = new Parameter('bias', [21], randomValues(4, 21));
    return router(true, { router: 'sigmoid', scalingFactor: 2.5, bias });
  },
  'routeExperts in groups by capped logits': () =>
    router(true, { router: 'sigmoid', groups: { count: 7, topK: 3 }, logitCap: 0.7 }),
  dispatchTokens: dispatch,
  expertFeedForward: () => experts(),
  'expertFeedForward of limited units': () => experts(1.5),
  linearCrossEntropy: () =>
    (
      [
        [70, 33, 1000],
        [530, 16, 77],
        [3, 20, 5],
      ] as const
    ).flatMap((sizes) => crossEntropy(sizes)),
  'linearCrossEntropy of capped logits': () => crossEntropy([70, 33, 1003], 3),
  adamW: optimizer,
  muon,
  squaredNorms: () => [squaredNorms(randomValues(1, 30_000, 2))],
  sumTree: () => {
    const target = new Float32Array(2000);
    sumTree(
      target,
      [1, 2, 3, 4, 5].map((seed) => randomValues(seed, 2000)),
    );
    return [target];
  },
  roundedSums: () => {
    const halves = [1, 2, 3, 4, 5].map((seed) => {
      const rounded = new Uint16Array(2000);
      roundToBfloat16(randomValues(seed, 2000), rounded);
      return rounded;
    });
    const [target, added] = [new Float32Array(2000), randomValues(6, 2000)];
    sumTreeBfloat16(target, halves);
    addRounded(added, randomValues(7, 2000));
    return [...halves, target, added];
  },
  softmax,
  plainOperations,
  hyperbolicTangent: () => {
    const x = randomValues(1, 33 * 29).map((value, i) => value * (i % 7));
    return [tf.tidy(() => tf.tanh(matrix(x, 29)).dataSync().slice())];
  },
};
