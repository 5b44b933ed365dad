import { BLOCK_ELEMENTS } from '@sluice/core';
import { type AdamWSettings, adamW, setThreads } from '@sluice/engine';
import test from 'ava';
import fc from 'fast-check';
import { SETTINGS } from './support/adamW.ts';
import { randomValues, relativeError } from './support/differential.ts';

interface State {
  parameters: Float32Array;
  firstMoment: Float32Array;
  secondMoment: Float32Array;
}

/** @returns the sums of squares of the update */
function update(state: State, gradients: Float32Array, settings: Partial<AdamWSettings> = {}): Float64Array {
  const sums = new Float64Array(2 * Math.ceil(state.parameters.length / BLOCK_ELEMENTS));
  adamW({ ...state, gradients }, { ...SETTINGS, ...settings }, sums);
  return sums;
}

function newState(seed: number, length: number): State {
  return {
    parameters: randomValues(seed, length),
    firstMoment: new Float32Array(length),
    secondMoment: new Float32Array(length),
  };
}

function part({ parameters, firstMoment, secondMoment }: State, begin: number, end: number): State {
  return {
    parameters: parameters.subarray(begin, end),
    firstMoment: firstMoment.subarray(begin, end),
    secondMoment: secondMoment.subarray(begin, end),
  };
}

function bytes({ parameters, firstMoment, secondMoment }: State): Buffer {
  return Buffer.concat([parameters, firstMoment, secondMoment].map((v) => Buffer.from(v.slice().buffer)));
}

/** PyTorch's `_single_tensor_adamw`, one parameter, in double precision. */
function pytorchAdamW(parameter: number, gradients: readonly number[], settings: AdamWSettings): number {
  const { learningRate, beta1, beta2, epsilon, weightDecay, gradientScale } = settings;
  let [first, second] = [0, 0];
  for (const [i, gradient] of gradients.entries()) {
    const scaled = gradient * gradientScale;
    parameter *= 1 - learningRate * weightDecay;
    first = beta1 * first + (1 - beta1) * scaled;
    second = beta2 * second + (1 - beta2) * scaled ** 2;
    const denominator = Math.sqrt(second) / Math.sqrt(1 - beta2 ** (i + 1)) + epsilon;
    parameter -= (learningRate / (1 - beta1 ** (i + 1))) * (first / denominator);
  }
  return parameter;
}

test('many updates agree with PyTorch’s formula in double precision', (t) => {
  const [length, updates] = [77, 25];
  const state = newState(1, length);
  const gradients = Array.from({ length: updates }, (_, i) => randomValues(100 + i, length, 3));
  const expected = Array.from(state.parameters, (value, j) =>
    pytorchAdamW(
      value,
      gradients.map((g) => g[j]!),
      SETTINGS,
    ),
  );
  for (const [i, g] of gradients.entries()) update(state, g, { step: i + 1 });
  t.true(relativeError(state.parameters, expected) < 2e-6);
});

test('the first update moves each parameter by the learning rate, against its gradient', (t) => {
  const state = newState(1, 40);
  const before = state.parameters.slice();
  const gradients = randomValues(3, 40, 1e-3);
  update(state, gradients, { weightDecay: 0 });
  const moves = state.parameters.map((value, i) => value - before[i]!);
  t.true(
    relativeError(
      moves,
      gradients.map((g) => -0.02 * Math.sign(g)),
    ) < 1e-3,
  );
});

test('without a gradient only the weight decay acts', (t) => {
  const state = newState(1, 40);
  const expected = state.parameters.map((value) => value * (1 - 0.02 * 0.1));
  update(state, new Float32Array(40));
  t.true(relativeError(state.parameters, expected) < 1e-7);
});

test('a value’s result does not depend on where a range is cut', (t) => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 9000 }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      (length, at) => {
        const cut = Math.floor(at * length);
        const gradients = randomValues(4, length);
        const [whole, pieces] = [newState(3, length), newState(3, length)];
        for (const step of [1, 2]) {
          update(whole, gradients, { step });
          update(part(pieces, 0, cut), gradients.subarray(0, cut), { step });
          update(part(pieces, cut, length), gradients.subarray(cut), { step });
        }
        t.true(bytes(whole).equals(bytes(pieces)));
      },
    ),
    { numRuns: 60 },
  );
});

test('an update adds up by blocks how far it moves its parameters, and what they were', (t) => {
  const length = 2 * BLOCK_ELEMENTS + 77;
  const gradients = randomValues(4, length);
  const state = newState(3, length);
  update(state, gradients);
  const before = state.parameters.slice();
  const sums = update(state, gradients, { step: 2 });
  const squares = (values: Float32Array) =>
    [0, 1, 2].map((block) =>
      values
        .subarray(block * BLOCK_ELEMENTS, (block + 1) * BLOCK_ELEMENTS)
        .reduce((sum, value) => sum + value ** 2, 0),
    );
  const moves = squares(before.map((value, i) => state.parameters[i]! - value));
  for (const [block, was] of squares(before).entries()) {
    t.true(Math.abs(sums[2 * block + 1]! / was - 1) < 1e-5);
    t.true(Math.abs(sums[2 * block]! / moves[block]! - 1) < 1e-5);
  }
});

test('the sums of a block do not depend on where a buffer is cut between blocks', (t) => {
  const length = 3 * BLOCK_ELEMENTS + 5;
  const gradients = randomValues(4, length);
  const [whole, pieces] = [newState(3, length), newState(3, length)];
  const cut = 2 * BLOCK_ELEMENTS;
  const sums = update(whole, gradients);
  const first = update(part(pieces, 0, cut), gradients.subarray(0, cut));
  const second = update(part(pieces, cut, length), gradients.subarray(cut));
  t.deepEqual([...sums], [...first, ...second]);
});

test('the number of threads changes no bit', (t) => {
  const gradients = randomValues(4, 50_001);
  const results = [1, 3].map((count) => {
    setThreads(count);
    const state = newState(3, gradients.length);
    const sums = [1, 2, 3].map((step) => update(state, gradients, { step }));
    return Buffer.concat([bytes(state), ...sums.map(({ buffer }) => Buffer.from(buffer))]);
  });
  setThreads(1);
  t.true(results[0]!.equals(results[1]!));
});

test('buffers of different lengths are refused', (t) => {
  const state = newState(1, 8);
  t.throws(() => update(state, new Float32Array(7)), {
    message: /7 values for 8/,
  });
  t.throws(() => update(state, new Float32Array(8), { step: 0 }), {
    message: /from 1, not from 0/,
  });
});
