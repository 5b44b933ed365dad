import { linearCrossEntropy, Parameter } from '@sluice/engine';
import * as tf from '@tensorflow/tfjs';
import test from 'ava';
import fc from 'fast-check';
import {
  finiteDifferences,
  type Operation,
  operand,
  randomValues,
  runOperation,
  threadsChangeNoBit,
  worstError,
} from './support/differential.ts';

function targetsOf(seed: number, tokens: number, vocabulary: number): Int32Array {
  return Int32Array.from(randomValues(seed, tokens), (value) =>
    Math.min(vocabulary - 1, Math.floor(((value + 1) / 2) * vocabulary)),
  );
}

function operandsOf(seed: number, tokens: number, channels: number, vocabulary: number, scale = 1) {
  return {
    x: operand(seed, [tokens, channels], scale),
    weight: operand(seed + 1, [vocabulary, channels]),
  };
}

function lossOf(targets: Int32Array, scale: number, cap?: number): Operation {
  return ({ x, weight }) => linearCrossEntropy(x!.onTape() as tf.Tensor2D, weight!, targets, { scale, cap });
}

test('the native kernel agrees with the reference over random shapes', (t) => {
  fc.assert(
    fc.property(
      fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 500, max: 1100 })),
      fc.integer({ min: 1, max: 30 }),
      fc.integer({ min: 2, max: 150 }),
      fc.nat(),
      fc.constantFrom(undefined, 0.8),
      (tokens, channels, vocabulary, seed, cap) => {
        const operands = operandsOf(seed, tokens, channels, vocabulary);
        const loss = lossOf(targetsOf(seed + 2, tokens, vocabulary), 1 / tokens, cap);
        t.true(
          worstError(runOperation('native', loss, operands), runOperation('cpu', loss, operands)) < 1e-5,
        );
      },
    ),
    { numRuns: 30 },
  );
});

for (const cap of [undefined, 0.6]) {
  const name = cap === undefined ? '' : ' of capped logits';
  test(`the gradient${name} agrees with finite differences in double precision`, (t) => {
    const [tokens, channels, vocabulary] = [4, 5, 21];
    const operands = operandsOf(1, tokens, channels, vocabulary);
    const targets = targetsOf(5, tokens, vocabulary);
    const expected = finiteDifferences(({ x, weight }) => {
      let loss = 0;
      for (let n = 0; n < tokens; n++) {
        const logits = Array.from({ length: vocabulary }, (_, v) => {
          let logit = 0;
          for (let c = 0; c < channels; c++) logit += x![n * channels + c]! * weight![v * channels + c]!;
          return cap === undefined ? logit : cap * Math.tanh(logit / cap);
        });
        loss += Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit), 0)) - logits[targets[n]!]!;
      }
      return Float64Array.of(0.25 * loss);
    }, operands);
    for (const backend of ['native', 'cpu'])
      t.true(worstError(runOperation(backend, lossOf(targets, 0.25, cap), operands), expected) < 1e-5);
  });
}

test('without recording the loss has the same bits, and no gradient is formed', (t) => {
  const operands = operandsOf(7, 300, 8, 50);
  const targets = targetsOf(9, 300, 50);
  const { output } = runOperation('native', lossOf(targets, 0.5), operands);
  const weight = new Parameter('weight', operands.weight.shape, operands.weight.values);
  weight.sink = () => t.fail('no gradient is due') as never;
  const x = tf.tensor2d(operands.x.values, [300, 8]);
  const loss = linearCrossEntropy(x, weight, targets, { scale: 0.5 });
  t.deepEqual(loss.dataSync(), output);
  tf.dispose([x, loss]);
});

test('tokens with a negative target have no loss and no gradient', (t) => {
  const operands = operandsOf(3, 20, 6, 33);
  const targets = targetsOf(4, 20, 33).map((target, n) => (n % 3 === 0 ? -1 : target));
  const [native, reference] = (['native', 'cpu'] as const).map((backend) =>
    runOperation(backend, lossOf(targets, 1), operands),
  ) as [ReturnType<typeof runOperation>, ReturnType<typeof runOperation>];
  t.true(worstError(native, reference) < 1e-5);
  for (let n = 0; n < 20; n += 3) {
    t.true(native.gradients.x!.slice(n * 6, (n + 1) * 6).every((value) => value === 0));
  }
});

test('logits of any size neither overflow nor lose the loss', (t) => {
  const operands = operandsOf(3, 10, 30, 40, 300);
  const targets = targetsOf(4, 10, 40);
  const outcome = runOperation('native', lossOf(targets, 1), operands);
  t.true(Number.isFinite(outcome.output[0]!) && outcome.output[0]! > 100);
  t.true(worstError(outcome, runOperation('cpu', lossOf(targets, 1), operands)) < 1e-5);
});

test('a NaN makes the loss NaN', (t) => {
  const operands = operandsOf(3, 10, 30, 40);
  operands.x.values[77] = Number.NaN;
  t.true(Number.isNaN(runOperation('native', lossOf(targetsOf(4, 10, 40), 1), operands).output[0]!));
});

test('the number of threads changes no bit', (t) => {
  const operands = operandsOf(5, 1200, 24, 300);
  const loss = lossOf(targetsOf(2, 1200, 300), 1 / 1200);
  t.true(threadsChangeNoBit(loss, operands, [1, 2, 3, 64]));
});

test('a loss that does not enter the total with the factor 1 breaks an invariant', (t) => {
  const doubled: Operation = (operands) => tf.mul(lossOf(Int32Array.of(0), 1)(operands), 2);
  t.throws(() => runOperation('native', doubled, operandsOf(1, 1, 4, 5)), { message: /is 2, not 1/ });
});

test('a target beyond the vocabulary is refused', (t) => {
  t.throws(() => runOperation('native', lossOf(Int32Array.of(0, 5), 1), operandsOf(1, 2, 4, 5)), {
    message: /target 5 of token 1 is beyond the vocabulary of 5/,
  });
});
