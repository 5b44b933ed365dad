/** The border between JavaScript and C++: a wrong call throws, and never reads or writes beyond an array. */

import { nativeCore } from '@sluice/engine';
import test from 'ava';

type Argument = Float32Array | Float64Array | Int32Array | number | boolean | null;

const floats = (length: number) => new Float32Array(length);
const counting = (length: number) => Int32Array.from({ length }, (_, i) => i);
/** Two tokens, three experts, two experts a token, five channels; a table of seven rows. */
const [N, E, K, C, V] = [2, 3, 2, 5, 7];
const M = N * K;

/** Right calls, whose arrays are as short as they may be. */
const CALLS: Readonly<Record<string, readonly Argument[]>> = {
  embedding: [counting(N), floats(V * C), floats(N * C), N, V, C],
  embeddingBackward: [counting(N), floats(N * C), floats(V * C), N, V, C, false],
  rmsNorm: [floats(N * C), floats(C), floats(N * C), N, C, 1e-6],
  rmsNormBackward: [floats(N * C), floats(C), floats(N * C), floats(N * C), floats(C), N, C, 1e-6, true],
  router: [
    floats(N * E),
    floats(E),
    floats(M),
    counting(M),
    N,
    E,
    K,
    true,
    0.1,
    0.1,
    true,
    2,
    floats(E),
    1,
    1,
  ],
  routerBackward: [
    floats(N * E),
    floats(E),
    Int32Array.of(0, 1, 2, 0),
    floats(M),
    floats(N * E),
    N,
    E,
    K,
    true,
    1,
    1,
    true,
    2,
  ],
  dispatchTokens: [floats(N * C), counting(M), floats(M * C), N, K, C],
  combineTokens: [floats(M * C), floats(M), counting(M), floats(N * C), N, K, C],
  combineTokensBackward: [
    floats(M * C),
    floats(M),
    counting(M),
    floats(N * C),
    floats(M * C),
    floats(M),
    N,
    K,
    C,
  ],
  adamW: [
    floats(9),
    floats(9),
    floats(9),
    floats(9),
    new Float64Array(6),
    9,
    4,
    1,
    0.1,
    0.1,
    0,
    0.1,
    1,
    1e-8,
  ],
  muonMomentum: [floats(9), floats(9), floats(9), 9, 1, 0.05],
  muonUpdate: [floats(9), floats(9), new Float64Array(6), 9, 4, 0.1, 0.1],
  scaleFloats: [floats(9), floats(9), 9, 2],
  squaredNorms: [floats(9), new Float64Array(3), 9, 4],
  sumTreeFloat32: [9, floats(9), floats(9), floats(9), floats(9)],
  sumTreeFloat64: [9, new Float64Array(9), new Float64Array(9), new Float64Array(9)],
  sumTreeInt32: [9, new Int32Array(9), new Int32Array(9), new Int32Array(9)],
  add: [floats(9), floats(9), floats(9), 9],
  broadcastAdd: [floats(N * C), floats(C), floats(N * C), Int32Array.of(N, C, C, 1, 0, 1, C, 1), 2],
  sigmoid: [floats(9), floats(9), 9],
  hyperbolicTangent: [floats(9), floats(9), 9],
  copyStrided: [floats(1 + N * C), 1, floats(2 + N * C), 2, Int32Array.of(C, N, 1, C, N, 1), 2],
  sumAxis: [floats(N * C * E), floats(N * E), N, C, E, 1],
  softmax: [floats(N * C), floats(N * C), N, C],
  rotaryEmbedding: [floats(16), floats(2), floats(2), floats(16), Int32Array.of(0, 2, 4), 2, 2, 2, false],
  shortConvolution: [floats(4 * C), floats(C * K), floats(4 * C), Int32Array.of(0, 2, 4), 2, C, K, true],
  shortConvolutionBackward: [
    ...[floats(4 * C), floats(C * K), floats(4 * C), floats(4 * C), floats(C * K)],
    ...[Int32Array.of(0, 2, 4), 2, C, K, true, true],
  ],
  gatedDeltaRule: [
    ...[floats(2 * 20), floats(2 * 4), floats(2), floats(2), floats(2 * 12), floats(2 * 4 * 6)],
    ...[Int32Array.of(0, 2), 1, 1, 2, 4, 6, true],
  ],
  gatedDeltaRuleBackward: [
    ...[floats(2 * 20), floats(2 * 4), floats(2), floats(2), floats(2 * 12)],
    ...[floats(2 * 20), floats(2 * 4), floats(2), floats(2), false, true],
    ...[Int32Array.of(0, 2), 1, 1, 2, 4, 6, true],
  ],
  kimiDeltaRule: [
    ...[floats(2 * 28), floats(2 * 2), floats(2 * 8), floats(2), floats(8), floats(2 * 12)],
    ...[floats(2 * 4 * 6), Int32Array.of(0, 2), 1, 2, 4, 6],
  ],
  kimiDeltaRuleBackward: [
    ...[floats(2 * 28), floats(2 * 2), floats(2 * 8), floats(2), floats(8), floats(2 * 12)],
    ...[floats(2 * 28), floats(2 * 2), floats(2 * 8), floats(2), floats(8), false, true],
    ...[Int32Array.of(0, 2), 1, 2, 4, 6],
  ],
  attentionStatistics: [
    floats(16),
    floats(8),
    floats(2),
    new Float64Array(16),
    Int32Array.of(0, 2, 4),
    2,
    2,
    1,
    2,
    0,
  ],
};

const run = (name: string, args: readonly Argument[]) => nativeCore()![name]!(...args);

for (const [name, args] of Object.entries(CALLS)) {
  test(`${name} takes arrays that are just long enough, and refuses shorter ones or none`, (t) => {
    t.notThrows(() => run(name, args));
    for (const [i, argument] of args.entries()) {
      if (argument === null || typeof argument !== 'object') continue;
      const shorter = args.with(i, argument.subarray(0, argument.length - 1));
      t.throws(() => run(name, shorter), { message: /are needed/ }, `argument ${i}`);
      const wrong = args.with(i, argument instanceof Int32Array ? floats(99) : new Int32Array(99));
      t.throws(() => run(name, wrong), { message: /must be a typed array/ }, `argument ${i}`);
    }
    t.throws(() => run(name, []), { message: new RegExp(`native kernel ${name}: argument`) });
  });
}

test('sizes must be whole numbers that are not negative', (t) => {
  for (const size of [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY]) {
    t.throws(() => run('sigmoid', [floats(9), floats(9), size]), { message: /a whole number, not negative/ });
  }
});

test('indices that lead out of an array are refused', (t) => {
  for (const wrong of [-1, M]) {
    const plan = counting(M).fill(wrong, 2, 3);
    t.throws(() => run('dispatchTokens', CALLS.dispatchTokens!.with(1, plan)), { message: /is not below 4/ });
    t.throws(() => run('combineTokens', CALLS.combineTokens!.with(2, plan)), { message: /is not below 4/ });
    t.throws(() => run('combineTokensBackward', CALLS.combineTokensBackward!.with(2, plan)), {
      message: /is not below 4/,
    });
  }
  for (const wrong of [-1, E]) {
    const experts = Int32Array.of(0, 1, wrong, 0);
    t.throws(() => run('routerBackward', CALLS.routerBackward!.with(2, experts)), { message: /expert/ });
  }
  for (const starts of [Int32Array.of(1, 2, 4), Int32Array.of(0, 2, 2), Int32Array.of(0, 3, 2)]) {
    t.throws(() => run('rotaryEmbedding', CALLS.rotaryEmbedding!.with(4, starts)), { message: /document/ });
  }
  const negative = Int32Array.of(N, C, C, 1, -1, 1, C, 1);
  t.throws(() => run('broadcastAdd', CALLS.broadcastAdd!.with(3, negative)), { message: /negative/ });
});
