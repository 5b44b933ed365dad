import {
  attentionStatistics,
  forEachAttentionRow,
  type QueriesKeys,
  selectBackend,
  setThreads,
  statisticsOfHead,
} from '@sluice/engine';
import test from 'ava';
import fc from 'fast-check';
import { anyWindow, documentLengths, layoutOf, withDocuments } from './support/attention.ts';
import { randomValues, relativeError } from './support/differential.ts';

test.before(async () => {
  await selectBackend('native');
});

interface Sizes {
  batch: number;
  sequence: number;
  keyValueHeads: number;
  group: number;
  headDim: number;
}

function operands({ batch, sequence, keyValueHeads, group, headDim }: Sizes, seed: number, scale = 2) {
  const heads = keyValueHeads * group;
  const layout = { batch, sequence, heads, keyValueHeads, headDim };
  const rows = batch * sequence;
  const q = randomValues(seed + 1, rows * heads * headDim, scale);
  const k = randomValues(seed + 2, rows * keyValueHeads * headDim, scale);
  return { q, k, layout };
}

const numbersOf = (all: QueriesKeys) =>
  attentionStatistics(all).flatMap((one) => [one.firstToken, one.firstQuery, one.largestLogit, one.entropy]);

function definition(all: QueriesKeys): number[] {
  const { batch, documents, heads } = all.layout;
  return Array.from({ length: (documents?.length ?? batch) * heads }, (_, i) =>
    statisticsOfHead(all, Math.floor(i / heads), i % heads),
  ).flatMap((one) => [one.firstToken, one.firstQuery, one.largestLogit, one.entropy]);
}

const shapes = fc.record({
  batch: fc.integer({ min: 1, max: 2 }),
  sequence: fc.oneof(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 30, max: 140 })),
  keyValueHeads: fc.integer({ min: 1, max: 2 }),
  group: fc.integer({ min: 1, max: 3 }),
  headDim: fc.integer({ min: 1, max: 12 }).map((half) => 2 * half),
});

test('the kernel agrees with the definition, with and without a place that is no token', (t) => {
  fc.assert(
    fc.property(
      shapes,
      fc.nat(1000),
      fc.boolean(),
      fc.boolean(),
      anyWindow,
      (sizes, seed, hasSinks, areSeparate, window) => {
        const { q, k, layout: packed } = operands(sizes, seed);
        const { batch, sequence, keyValueHeads, group, headDim } = sizes;
        const whole = layoutOf([batch, sequence, keyValueHeads, group, headDim], 'none');
        const rows = areSeparate ? withDocuments(whole, documentLengths(batch, sequence, seed)) : packed;
        const layout = { ...rows, window };
        const all = { q, k, layout, ...(hasSinks && { sinks: randomValues(seed, layout.heads, 3) }) };
        const error = relativeError(numbersOf(all), definition(all));
        t.true(error < 2e-6, `${error}`);
      },
    ),
    { numRuns: 60 },
  );
});

test('rows are softmax over the tokens that a query sees', (t) => {
  const { q, k, layout } = operands({ batch: 2, sequence: 5, keyValueHeads: 2, group: 2, headDim: 4 }, 5);
  const logit = (i: number, j: number) => {
    // Sequence 1, head 3, which shares key-value head 1.
    let sum = 0;
    for (let d = 0; d < 4; d++) sum += q[(5 + i) * 16 + 12 + d]! * k[(5 + j) * 8 + 4 + d]!;
    return sum / 2;
  };
  forEachAttentionRow({ q, k, layout }, 1, 3, ({ query, weights, logits, sink }) => {
    t.is(weights.length, query + 1);
    const terms = Array.from({ length: query + 1 }, (_, j) => Math.exp(logit(query, j)));
    const total = terms.reduce((a, b) => a + b, 0);
    t.true(
      relativeError(
        [...weights],
        terms.map((term) => term / total),
      ) < 1e-12,
    );
    t.true(Math.abs(logits[query]! - logit(query, query)) < 1e-12);
    t.is(sink, 0);
  });
});

test('capped scores are what the weights are made of, and the largest is told as it was', (t) => {
  const { q, k, layout } = operands({ batch: 1, sequence: 6, keyValueHeads: 1, group: 2, headDim: 4 }, 7, 3);
  const sinks = Float32Array.of(2, -5);
  const cap = (score: number) => 1.5 * Math.tanh(score / 1.5);
  const all = { q, k, sinks, layout: { ...layout, scoreCap: 1.5 } };
  const rows: number[] = [];
  forEachAttentionRow({ q, k, layout }, 0, 1, ({ logits }) => rows.push(...logits));
  forEachAttentionRow(all, 0, 1, ({ query, weights, logits, sink }) => {
    const plain = rows.splice(0, query + 1);
    t.deepEqual([...logits], plain);
    const terms = plain.map((score) => Math.exp(cap(score)));
    const total = terms.reduce((a, b) => a + b, Math.exp(cap(-5)));
    t.true(
      relativeError(
        [...weights, sink],
        [...terms, Math.exp(cap(-5))].map((term) => term / total),
      ) < 1e-12,
    );
  });
  t.deepEqual(numbersOf(all), definition(all));
  t.is(attentionStatistics(all)[0]!.largestLogit, statisticsOfHead({ q, k, layout }, 0, 0).largestLogit);
});

test('even attention has entropy ln(i + 1) and gives the first token 1/(i + 1)', (t) => {
  const layout = { batch: 1, sequence: 200, heads: 1, keyValueHeads: 1, headDim: 4 };
  const [q, k] = [new Float32Array(800), new Float32Array(800).fill(1)];
  const [one] = attentionStatistics({ q, k, layout });
  const later = Array.from({ length: 199 }, (_, i) => i + 2);
  t.true(Math.abs(one!.firstToken - later.reduce((sum, n) => sum + 1 / n, 0)) < 1e-5);
  t.true(Math.abs(one!.entropy - later.reduce((sum, n) => sum + Math.log(n), 0)) < 1e-3);
  t.is(one!.firstQuery, 1);
  t.is(one!.largestLogit, 0);
});

test('each document that is kept apart has the numbers that it has alone', (t) => {
  const lengths = [5, 64, 1, 100, 30];
  const layout = withDocuments(layoutOf([1, 200, 1, 2, 8], 'none'), lengths);
  const [q, k] = [randomValues(1, 200 * 16, 2), randomValues(2, 200 * 8, 2)];
  const all = attentionStatistics({ q, k, layout });
  for (const [i, begin] of layout.documents!.entries()) {
    const end = begin + lengths[i]!;
    const alone = attentionStatistics({
      q: q.slice(begin * 16, end * 16),
      k: k.slice(begin * 8, end * 8),
      layout: layoutOf([1, lengths[i]!, 1, 2, 8], 'none'),
    });
    t.deepEqual(all.slice(2 * i, 2 * i + 2), alone);
  }
});

test('threads change no bit', (t) => {
  const all = operands({ batch: 3, sequence: 100, keyValueHeads: 2, group: 2, headDim: 16 }, 9);
  setThreads(1);
  const one = numbersOf(all);
  setThreads(3);
  const three = numbersOf(all);
  setThreads(1);
  t.deepEqual(three, one);
});

test('large logits neither overflow nor lose the attention', (t) => {
  const all = operands({ batch: 1, sequence: 70, keyValueHeads: 1, group: 1, headDim: 8 }, 3, 60);
  const [numbers, expected] = [numbersOf(all), definition(all)];
  t.true(expected[2]! > 500);
  t.true(relativeError(numbers, expected) < 1e-4, `${numbers} against ${expected}`);
});

test('what is not a number stays visible', (t) => {
  const [q, k] = [randomValues(1, 40 * 4), new Float32Array(40 * 4).fill(1)];
  q[37 * 4] = Number.NaN;
  const layout = { batch: 1, sequence: 40, heads: 1, keyValueHeads: 1, headDim: 4 };
  for (const one of [attentionStatistics({ q, k, layout })[0]!, statisticsOfHead({ q, k, layout }, 0, 0)]) {
    t.true(Number.isNaN(one.largestLogit));
    t.true(Number.isNaN(one.entropy));
    t.true(Number.isNaN(one.firstToken));
  }
});
