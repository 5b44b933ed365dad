import {
  type AttentionLayout,
  cachedAttention,
  computeGradients,
  gatedAttention,
  gateWidth,
  Parameter,
  setThreads,
} from '@sluice/engine';
import * as tf from '@tensorflow/tfjs';
import test from 'ava';
import fc from 'fast-check';
import { type AttentionShape, anyGate, anyWindow, layoutOf } from './support/attention.ts';
import { randomValues, relativeError } from './support/differential.ts';

interface Case {
  readonly past: number;
  readonly layout: AttentionLayout;
  readonly q: Float32Array;
  readonly keys: Float32Array;
  readonly values: Float32Array;
  readonly gate: Float32Array | undefined;
}

function makeCase(
  [past, sequence, keyValueHeads, group, headDim]: AttentionShape,
  gate: AttentionLayout['gate'],
  seed: number,
): Case {
  const layout = layoutOf([1, sequence, keyValueHeads, group, headDim], gate);
  const { heads } = layout;
  const tokens = past + sequence;
  return {
    past,
    layout,
    q: randomValues(seed, tokens * heads * headDim, 2),
    keys: randomValues(seed + 1, tokens * keyValueHeads * headDim, 2),
    values: randomValues(seed + 2, tokens * keyValueHeads * headDim),
    gate: gate === 'none' ? undefined : randomValues(seed + 3, tokens * gateWidth(layout), 4),
  };
}

/** The new tokens' rows of attention over the whole sequence. */
function whole(backend: string, { past, layout, ...c }: Case): Float32Array {
  tf.setBackend(backend);
  const tokens = past + layout.sequence;
  const matrix = (values: Float32Array) => tf.tensor2d(values, [tokens, values.length / tokens]);
  return tf.tidy(() => {
    const y = gatedAttention(matrix(c.q), matrix(c.keys), matrix(c.values), c.gate && matrix(c.gate), {
      ...layout,
      sequence: tokens,
    });
    return y.dataSync<'float32'>().slice(past * layout.heads * layout.headDim);
  });
}

/** The same from the cache; keys and values have room for more tokens behind them. */
function cached(backend: string, { past, layout, ...c }: Case): Float32Array {
  tf.setBackend(backend);
  const tokens = past + layout.sequence;
  const newRows = (values: Float32Array) => {
    const width = values.length / tokens;
    return tf.tensor2d(values.slice(past * width), [layout.sequence, width]);
  };
  const roomy = (values: Float32Array) => {
    const larger = new Float32Array(values.length + 64).fill(Number.NaN);
    larger.set(values);
    return larger;
  };
  return tf.tidy(() =>
    cachedAttention(
      newRows(c.q),
      { keys: roomy(c.keys), values: roomy(c.values), tokens },
      c.gate && newRows(c.gate),
      layout,
    )
      .dataSync<'float32'>()
      .slice(),
  );
}

const anyShape = fc.tuple(
  fc.oneof(fc.integer({ min: 0, max: 9 }), fc.integer({ min: 10, max: 90 })),
  fc.integer({ min: 1, max: 5 }),
  fc.integer({ min: 1, max: 2 }),
  fc.integer({ min: 1, max: 3 }),
  fc.constantFrom(2, 6, 8, 16, 20, 32, 64),
);

for (const backend of ['native', 'cpu']) {
  test(`new tokens attend to cached ones as within the whole sequence, on ${backend}`, (t) => {
    fc.assert(
      fc.property(
        anyShape,
        anyGate,
        anyWindow,
        fc.nat(),
        fc.boolean(),
        (shape, gate, window, seed, isCapped) => {
          const plain = makeCase(shape, gate, seed);
          const scoreCap = isCapped ? 1.5 : undefined;
          const attention = { ...plain, layout: { ...plain.layout, scoreCap, window } };
          const error = relativeError(cached(backend, attention), whole('cpu', attention));
          t.true(error < 1e-5, `${JSON.stringify(attention.layout)} after ${attention.past}: ${error}`);
        },
      ),
      { numRuns: 30 },
    );
  });
}

test('the number of threads changes no bit', (t) => {
  const attention = makeCase([70, 3, 2, 2, 20], 'elementwise', 5);
  const [one, two] = [1, 2].map((count) => {
    setThreads(count);
    return cached('native', attention);
  });
  setThreads(1);
  t.deepEqual(one, two);
});

test('a cache that is too short, and a gradient, are refused', (t) => {
  tf.setBackend('native');
  const { layout, q, keys, values } = makeCase([4, 2, 1, 2, 8], 'none', 1);
  const rows = tf.tensor2d(q.slice(4 * 16), [2, 16]);
  const short = { keys: keys.subarray(8), values, tokens: 6 };
  t.throws(() => cachedAttention(rows, short, undefined, layout), { message: /a cache of 48 elements/ });
  const query = new Parameter('q', [2, 16], q.slice(4 * 16));
  const attend = () =>
    cachedAttention(query.onTape() as tf.Tensor2D, { keys, values, tokens: 6 }, undefined, layout);
  t.throws(() => computeGradients(() => tf.sum(attend()) as tf.Scalar), { message: /no gradient/ });
});
