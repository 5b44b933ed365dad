import { computeGradients, Parameter, planDispatch, type RoutingOptions, routeExperts } from '@sluice/engine';
import * as tf from '@tensorflow/tfjs';
import test from 'ava';
import fc from 'fast-check';
import {
  finiteDifferences,
  type Operands,
  type Operation,
  operand,
  randomValues,
  relativeError,
  runOperation,
  threadsChangeNoBit,
  worstError,
} from './support/differential.ts';

function options(numExperts: number, topK: number, changes: Partial<RoutingOptions> = {}): RoutingOptions {
  const weights = randomValues(7, numExperts).map((value) => 1 + value);
  const sum = weights.reduce((a, b) => a + b, 0);
  return {
    topK,
    normalizeTopK: true,
    balanceCoefficient: 0.5,
    zCoefficient: 0.3,
    loads: weights.map((value) => value / sum),
    totalTokens: 50,
    ...changes,
  };
}

/** Weights and auxiliary loss as one vector, so that the gradients of both are looked at. */
const route = (routing: RoutingOptions): Operation => {
  return ({ x, router }) => {
    const { weights_NK, auxiliaryLoss } = routeExperts(x!.onTape() as tf.Tensor2D, router!, routing);
    return tf.concat([tf.reshape(weights_NK, [-1]), tf.reshape(auxiliaryLoss, [1])]);
  };
};

function biasOf(values: ArrayLike<number>): Parameter {
  return new Parameter('bias', [values.length], Float32Array.from(values));
}

/** Every kind of router, the plain one first. */
const KINDS: readonly Partial<RoutingOptions>[] = [
  {},
  { scalingFactor: 2.5 },
  { router: 'sigmoid' },
  { router: 'sigmoid', scalingFactor: 0.7 },
  { router: 'sigmoid', logitCap: 1.5 },
];

/** Groups of so many experts, half of which can be had; undefined where there are none. */
function groupsOf(numExperts: number) {
  const count = [4, 3, 2].find((divisor) => numExperts % divisor === 0);
  return count && { count, topK: Math.ceil(count / 2) };
}

/** Routes tokens whose logits are given: the router is the identity. */
function routeLogits(
  rows: number[][],
  topK: number,
  normalizeTopK = true,
  { bias, ...changes }: Omit<Partial<RoutingOptions>, 'bias'> & { bias?: number[] } = {},
) {
  tf.setBackend('native');
  const numExperts = rows[0]!.length;
  const identity = Float32Array.from({ length: numExperts ** 2 }, (_, i) => (i % (numExperts + 1) ? 0 : 1));
  const router = new Parameter('router', [numExperts, numExperts], identity);
  return tf.tidy(() => {
    const routing = options(numExperts, topK, {
      normalizeTopK,
      ...changes,
      ...(bias && { bias: biasOf(bias) }),
    });
    const { weights_NK, indices_NK, auxiliaryLoss } = routeExperts(tf.tensor2d(rows), router, routing);
    const [weights, indices] = [weights_NK, indices_NK].map((tensor) => [...tensor.dataSync()]);
    return { weights: weights!, indices: indices!, auxiliary: auxiliaryLoss.dataSync()[0]! };
  });
}

test('the native kernel agrees with the reference over random shapes', (t) => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 150 }),
      fc.integer({ min: 1, max: 20 }),
      fc.integer({ min: 2, max: 40 }),
      fc.nat(),
      fc.boolean(),
      fc.boolean(),
      fc.boolean(),
      fc.constantFrom(...KINDS),
      (tokens, width, numExperts, seed, normalizeTopK, isBiased, isGrouped, kind) => {
        const groups = (isGrouped && groupsOf(numExperts)) || undefined;
        const within = groups ? (numExperts / groups.count) * groups.topK : numExperts;
        const topK = 1 + (seed % Math.min(within, 8));
        const operands = {
          x: operand(seed, [tokens, width], 2),
          router: operand(seed + 1, [numExperts, width]),
        };
        const bias = isBiased ? { bias: biasOf(randomValues(seed + 2, numExperts)) } : {};
        const operation = route(options(numExperts, topK, { normalizeTopK, ...kind, ...bias, groups }));
        const native = runOperation('native', operation, operands);
        t.true(worstError(native, runOperation('cpu', operation, operands)) < 1e-5);
      },
    ),
    { numRuns: 120 },
  );
});

/** Weights and auxiliary loss in double precision, with the choice of experts given. */
function routeInDoubles(
  { x, router }: Readonly<Record<string, Float64Array>>,
  routing: RoutingOptions,
  indices: Int32Array,
): Float64Array {
  const { topK, normalizeTopK, loads, balanceCoefficient, zCoefficient, totalTokens } = routing;
  const { router: kind = 'softmax', scalingFactor = 1, logitCap } = routing;
  const numExperts = loads.length;
  const tokens = indices.length / topK;
  const width = x!.length / tokens;
  const out = new Float64Array(tokens * topK + 1);
  for (let n = 0; n < tokens; n++) {
    const logits = Array.from({ length: numExperts }, (_, e) => {
      let sum = 0;
      for (let c = 0; c < width; c++) sum += x![n * width + c]! * router![e * width + c]!;
      return logitCap === undefined ? sum : logitCap * Math.tanh(sum / logitCap);
    });
    const total = logits.reduce((sum, logit) => sum + Math.exp(logit), 0);
    const scores = logits.map((logit) =>
      kind === 'softmax' ? Math.exp(logit) / total : 1 / (1 + Math.exp(-logit)),
    );
    const chosen = [...indices.subarray(n * topK, (n + 1) * topK)].map((e) => scores[e]!);
    const scale = scalingFactor * (normalizeTopK ? 1 / chosen.reduce((a, b) => a + b, 0) : 1);
    for (let k = 0; k < topK; k++) out[n * topK + k] = chosen[k]! * scale;
    const all = scores.reduce((a, b) => a + b, 0);
    const balance = scores.reduce((sum, score, e) => sum + (score / all) * loads[e]!, 0) * numExperts;
    out[tokens * topK]! += (balanceCoefficient * balance + zCoefficient * Math.log(total) ** 2) / totalTokens;
  }
  return out;
}

for (const normalizeTopK of [true, false]) {
  for (const kind of KINDS) {
    const name = `${JSON.stringify(kind)} ${normalizeTopK ? 'with' : 'without'}`;
    test(`router ${name} renormalisation is its formula, its gradient that of finite differences, the choice being fixed`, (t) => {
      const operands: Operands = { x: operand(1, [6, 5]), router: operand(2, [7, 5]) };
      const routing = options(7, 3, { normalizeTopK, ...kind });
      tf.setBackend('native');
      const { indices, computed } = tf.tidy(() => {
        const router = new Parameter('router', [7, 5], operands.router!.values);
        const x = tf.tensor2d(operands.x!.values, [6, 5]);
        const { indices_NK, weights_NK, auxiliaryLoss } = routeExperts(x, router, routing);
        const indices = indices_NK.dataSync<'int32'>();
        return { indices, computed: [...weights_NK.dataSync(), ...auxiliaryLoss.dataSync()] };
      });
      const doubles = (values: Readonly<Record<string, Float64Array>>) =>
        routeInDoubles(values, routing, indices);
      const inDoubles = doubles({
        x: Float64Array.from(operands.x!.values),
        router: Float64Array.from(operands.router!.values),
      });
      t.true(relativeError(computed, inDoubles) < 1e-6);
      const expected = finiteDifferences(doubles, operands);
      t.true(worstError(runOperation('native', route(routing), operands), expected) < 1e-5);
    });
  }
}

test('a bias changes who is chosen, in the order of score and bias, and no weight', (t) => {
  const logits = [0, Math.log(2), Math.log(3), Math.log(4)];
  for (const router of ['softmax', 'sigmoid'] as const) {
    const scores = logits.map((logit) =>
      router === 'softmax' ? Math.exp(logit) / 10 : 1 / (1 + Math.exp(-logit)),
    );
    const { indices, weights, auxiliary } = routeLogits([logits], 2, false, { router, bias: [1, 0, 0.5, 0] });
    t.deepEqual(indices, [0, 2], router);
    t.true(relativeError(weights, [scores[0]!, scores[2]!]) < 1e-6, router);
    const plain = routeLogits([logits], 2, false, { router });
    t.deepEqual(plain.indices, [3, 2]);
    t.is(auxiliary, plain.auxiliary);
    t.deepEqual(routeLogits([logits], 2, false, { router, bias: [0, 0, 0, 0] }), plain);
  }
});

test('of several groups, a token has experts of those whose two best together are best', (t) => {
  const row = [0.9, 0.1, 0.2, 0.6, 0.5, 0.01, 0.7, 0.35, 0.3].map((score) => Math.log(score / (1 - score)));
  const chosen = (groups: { count: number; topK: number }, bias?: number[]) =>
    routeLogits([row], 2, false, { router: 'sigmoid', groups, ...(bias && { bias }) }).indices;
  t.deepEqual(chosen({ count: 1, topK: 1 }), [0, 6]);
  // 0.9 + 0.2, 0.6 + 0.5, and 0.7 + 0.35: of equal ones the first would do, and rounding decides; so the bias does.
  t.deepEqual(chosen({ count: 3, topK: 1 }, [0, 0, 0, 0.1, 0, 0, 0, 0, 0]), [3, 4]);
  t.deepEqual(chosen({ count: 3, topK: 2 }, [0, 0, 0, 0, 0, 0.55, 0, 0, 0.39]), [6, 8]);
  t.deepEqual(chosen({ count: 9, topK: 2 }), [0, 6]);
  for (const groups of [
    { count: 2, topK: 1 },
    { count: 9, topK: 1 },
    { count: 0, topK: 0 },
  ])
    t.throws(() => chosen(groups), { message: /groups|more experts/ });
});

test('sigmoids that all vanish give finite weights and loss', (t) => {
  const { weights, auxiliary } = routeLogits([[-200, -300, -250]], 2, true, {
    router: 'sigmoid',
    zCoefficient: 0,
  });
  t.true(weights.every(Number.isFinite));
  t.true(Number.isFinite(auxiliary));
});

test('experts are chosen by falling probability, of equal ones the lower index first', (t) => {
  const { indices, weights } = routeLogits(
    [
      [1, 3, 3, 2, 3],
      [0, 0, 0, 0, 0],
      [5, 4, 3, 2, 1],
    ],
    3,
  );
  t.deepEqual(indices, [1, 2, 4, 0, 1, 2, 0, 1, 2]);
  t.true(relativeError(weights.slice(0, 6), new Float32Array(6).fill(1 / 3)) < 1e-6);
});

test('all tokens may go to one expert', (t) => {
  const { indices } = routeLogits(Array(9).fill([0, 0, 8, 0]), 1);
  t.deepEqual(indices, Array(9).fill(2));
});

test('every expert may be chosen', (t) => {
  const { weights, indices } = routeLogits([[0, Math.log(3)]], 2);
  t.deepEqual(indices, [1, 0]);
  t.true(relativeError(weights, [0.75, 0.25]) < 1e-6);
  t.true(relativeError(routeLogits([[0, Math.log(3)]], 2, false).weights, [0.75, 0.25]) < 1e-6);
});

test('logits of any size give finite weights', (t) => {
  const { weights, indices } = routeLogits(
    [
      [1e4, -1e4, 9e3, 3e38],
      [-1e30, -2e30, -3e30, -4e30],
    ],
    2,
  );
  t.deepEqual(indices, [3, 0, 0, 1]);
  t.true(relativeError(weights, [1, 0, 1, 0]) < 1e-6);
  t.true(Number.isFinite(routeLogits([[1e4, -1e4, 9e3, 0]], 2).auxiliary));
});

test('logits that are no numbers still give each token distinct experts', (t) => {
  for (const row of [
    [Number.NaN, Number.NaN, Number.NaN, Number.NaN],
    [1, Number.NaN, 2, 3],
    [1, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, Number.NaN],
  ]) {
    const { indices } = routeLogits([row], 3);
    t.is(new Set(indices).size, 3);
    t.true(indices.every((expert) => expert >= 0 && expert < 4));
  }
});

test('a NaN reaches the weights of its token and the auxiliary loss', (t) => {
  const { weights, auxiliary } = routeLogits(
    [
      [1, 2, 3],
      [1, Number.NaN, 2],
    ],
    2,
  );
  t.deepEqual(
    weights.map((weight) => Number.isNaN(weight)),
    [false, false, true, true],
  );
  t.true(Number.isNaN(auxiliary));
});

test('no token at all is fine', (t) => {
  for (const backend of ['native', 'cpu']) {
    tf.setBackend(backend);
    const router = new Parameter('router', [3, 4], randomValues(1, 12));
    router.sink = () => ({ values: new Float32Array(12), accumulate: false });
    const loss = computeGradients(() => {
      const x = new Parameter('x', [0, 4], new Float32Array(0)).onTape() as tf.Tensor2D;
      const { weights_NK, indices_NK, auxiliaryLoss } = routeExperts(x, router, options(3, 2));
      t.deepEqual(weights_NK.shape, [0, 2]);
      t.deepEqual([...planDispatch(indices_NK, 3).counts.dataSync()], [0, 0, 0]);
      return auxiliaryLoss;
    });
    t.is(loss, 0);
  }
});

test('the auxiliary loss is smallest for even loads and small logits', (t) => {
  const even = routeLogits([[0, 0, 0, 0]], 2).auxiliary;
  t.true(even < routeLogits([[4, 4, 4, 4]], 2).auxiliary);
  // balance: 0.5 · E · Σ loads/E = 0.5; z: 0.3 · (ln 4)²; over 50 tokens.
  t.true(relativeError([even * 50], [0.5 + 0.3 * Math.log(4) ** 2]) < 1e-6);
});

test('the number of threads changes no bit', (t) => {
  const operands = { x: operand(5, [700, 12]), router: operand(6, [9, 12]) };
  for (const kind of KINDS) t.true(threadsChangeNoBit(route(options(9, 4, kind)), operands));
  t.true(threadsChangeNoBit(route(options(9, 4, { groups: { count: 3, topK: 2 } })), operands));
});
