import {
  cachedShortConvolution,
  documentStarts,
  Parameter,
  type ShortConvolution,
  shortConvolution,
} from '@sluice/engine';
import * as tf from '@tensorflow/tfjs';
import test from 'ava';
import fc from 'fast-check';
import { documentLengths, documentsOf } from './support/attention.ts';
import {
  finiteDifferences,
  type Operation,
  operand,
  randomValues,
  runOperation,
  threadsChangeNoBit,
  worstError,
} from './support/differential.ts';

const convolutionOf =
  (convolution: ShortConvolution): Operation =>
  ({ x, weight }) =>
    shortConvolution(x!.onTape() as tf.Tensor2D, weight!, convolution);

const operandsOf = ({ batch, sequence }: ShortConvolution, channels: number, taps: number, seed = 1) => ({
  x: operand(seed, [batch * sequence, channels], 2),
  weight: operand(seed + 1, [channels, 1, taps]),
});

const anyActivation = fc.constantFrom('none' as const, 'silu' as const);

test('the native kernel agrees with the reference over random shapes and documents', (t) => {
  fc.assert(
    fc.property(
      fc.tuple(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 90 })),
      fc.tuple(fc.integer({ min: 1, max: 90 }), fc.integer({ min: 1, max: 8 })),
      anyActivation,
      fc.boolean(),
      fc.nat(),
      ([batch, sequence], [channels, taps], activation, areSeparate, seed) => {
        const documents = areSeparate ? documentsOf(documentLengths(batch, sequence, seed)) : undefined;
        const convolution = { batch, sequence, documents, activation };
        const operands = operandsOf(convolution, channels, taps, seed);
        const [native, reference] = ['native', 'cpu'].map((backend) =>
          runOperation(backend, convolutionOf(convolution), operands),
        );
        t.true(worstError(native!, reference!) < 1e-5);
      },
    ),
    { numRuns: 40 },
  );
});

test('the gradient agrees with finite differences in double precision', (t) => {
  const [channels, taps] = [5, 4];
  for (const activation of ['none', 'silu'] as const) {
    for (const documents of [undefined, Int32Array.of(0, 2, 9, 10)]) {
      const convolution = { batch: 1, sequence: 12, documents, activation };
      const starts = documentStarts(convolution);
      const expected = finiteDifferences(
        ({ x, weight }) =>
          x!.map((_, i) => {
            const [row, c] = [Math.floor(i / channels), i % channels];
            let z = 0;
            for (let back = 0; back < taps && row - back >= starts[row]!; back++)
              z += weight![c * taps + taps - 1 - back]! * x![i - back * channels]!;
            return activation === 'silu' ? z / (1 + Math.exp(-z)) : z;
          }),
        operandsOf(convolution, channels, taps),
      );
      const actual = runOperation(
        'native',
        convolutionOf(convolution),
        operandsOf(convolution, channels, taps),
      );
      t.true(worstError(actual, expected) < 1e-5, activation);
    }
  }
});

test('the number of threads changes no bit', (t) => {
  const convolution = { batch: 3, sequence: 170, activation: 'silu' } as const;
  t.true(threadsChangeNoBit(convolutionOf(convolution), operandsOf(convolution, 70, 4)));
});

test('a document has the bits that it has alone', (t) => {
  const convolution = { batch: 1, sequence: 90, activation: 'silu' } as const;
  const whole = { ...convolution, documents: Int32Array.of(0, 13, 14, 80) };
  const operands = operandsOf(convolution, 21, 7);
  const { output } = runOperation('native', convolutionOf(whole), operands);
  for (const [begin, end] of [
    [0, 13],
    [13, 14],
    [14, 80],
    [80, 90],
  ] as const) {
    const x = { shape: [end - begin, 21], values: operands.x.values.slice(begin * 21, end * 21) };
    const alone = runOperation('native', convolutionOf({ ...convolution, sequence: end - begin }), {
      ...operands,
      x,
    });
    t.deepEqual(output.slice(begin * 21, end * 21), alone.output, `${begin} to ${end}`);
  }
});

test('a sequence that comes in pieces has the bits of the whole one, wherever it is cut', (t) => {
  tf.setBackend('native');
  const [tokens, channels, taps] = [37, 21, 4];
  const values = randomValues(1, tokens * channels, 2);
  const weight = new Parameter('weight', [channels, 1, taps], randomValues(2, channels * taps));
  const rows = (begin: number, end: number) =>
    tf.tensor2d(values.slice(begin * channels, end * channels), [end - begin, channels]);
  for (const activation of ['none', 'silu'] as const) {
    tf.tidy(() => {
      const whole = shortConvolution(rows(0, tokens), weight, { batch: 1, sequence: tokens, activation });
      const earlier = new Float32Array((taps - 1) * channels);
      const pieces = [0, 1, 2, 5, 20, 36, tokens].flatMap((begin, i, cuts) =>
        i + 1 < cuts.length
          ? [cachedShortConvolution(rows(begin, cuts[i + 1]!), weight, activation, earlier)]
          : [],
      );
      t.deepEqual(tf.concat2d(pieces, 0).dataSync(), whole.dataSync());
      t.deepEqual(earlier, values.slice(-(taps - 1) * channels));
    });
  }
});

test('a number that is not finite shows in the output', (t) => {
  const convolution = { batch: 1, sequence: 20, activation: 'silu' } as const;
  for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
    const operands = operandsOf(convolution, 9, 3);
    operands.x.values[5 * 9] = bad;
    const { output } = runOperation('native', convolutionOf(convolution), operands);
    t.false(output.every(Number.isFinite));
  }
});
