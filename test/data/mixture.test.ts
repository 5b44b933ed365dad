import { randomKey, randomPair } from '@sluice/core';
import { DataConfig, loadTokenizer, openRunData, prepareData, validationShares } from '@sluice/data';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { apportion, BLOCK_SAMPLES, firstDifference, MixtureOrder } from '../../packages/data/src/mixture.ts';
import { failureOf } from '../support/failureOf.ts';
import { stories, TestFolder } from './support/folder.ts';

/** How often each corpus comes among the samples [from, to), and that no sample of a corpus comes twice, nor one is left out. */
function countsOf(
  t: ExecutionContext,
  order: MixtureOrder,
  corpora: number,
  from: number,
  to: number,
): number[] {
  const indices = Array.from({ length: corpora }, () => new Set<number>());
  for (let sample = from; sample < to; sample++) {
    const { corpus, index } = order.locate(sample);
    if (indices[corpus]!.has(index)) t.fail(`sample ${index} of corpus ${corpus} comes twice`);
    indices[corpus]!.add(index);
  }
  return indices.map(({ size }) => size);
}

test('shares add up and are off by less than one', (t) => {
  fc.assert(
    fc.property(
      fc.nat(5000),
      fc.array(fc.integer({ min: 0, max: 50 }), { minLength: 1, maxLength: 6 }),
      (total, weights) => {
        fc.pre(weights.some((weight) => weight > 0));
        const shares = apportion(total, weights);
        const sum = weights.reduce((a, b) => a + b, 0);
        return (
          shares.reduce((a, b) => a + b, 0) === total &&
          shares.every((share, i) => Math.abs(share - (total * weights[i]!) / sum) < 1)
        );
      },
    ),
  );
  t.deepEqual(apportion(3, [1, 1]), [2, 1]);
});

test('every block has the shares of the weights, and a corpus’s samples come once each', (t) => {
  const order = new MixtureOrder([{ firstSample: 0, weights: [5, 0, 3] }], 7);
  for (const blocks of [1, 2, 5]) {
    const counts = countsOf(t, order, 3, 0, blocks * BLOCK_SAMPLES);
    t.deepEqual(counts, [blocks * 640, 0, blocks * 384]);
  }
  const early = countsOf(t, order, 3, 0, 200);
  t.true(Math.abs(early[0]! / 200 - 5 / 8) < 0.15, `${early}`);
});

test('a corpus’s samples are those from its first on, whole block by whole block, through all phases', (t) => {
  const phases = [
    { firstSample: 0, weights: [1, 3] },
    { firstSample: 1500, weights: [1, 0] },
    { firstSample: 1501, weights: [2, 5] },
    { firstSample: 4000, weights: [0, 1] },
  ];
  const order = new MixtureOrder(phases, 3);
  const seen = [new Set<number>(), new Set<number>()];
  for (let sample = 0; sample < 4000 + BLOCK_SAMPLES; sample++) {
    const { corpus, index } = order.locate(sample);
    t.false(seen[corpus]!.has(index));
    seen[corpus]!.add(index);
  }
  // Without gaps: as many as the largest number says.
  for (const indices of seen) t.is(Math.max(...indices), indices.size - 1);
  t.deepEqual(countsOf(t, order, 2, 0, BLOCK_SAMPLES), [256, 768]);
  t.deepEqual(countsOf(t, order, 2, 4000, 4100), [0, 100]);
});

test('a corpus gives its samples in its own order, within blocks and from phase to phase', (t) => {
  const phases = [
    { firstSample: 0, weights: [3, 1] },
    { firstSample: 700, weights: [1, 1] },
    { firstSample: 700 + BLOCK_SAMPLES, weights: [1, 5] },
  ];
  const order = new MixtureOrder(phases, 7);
  const next = [0, 0];
  for (let sample = 0; sample < 4 * BLOCK_SAMPLES; sample++) {
    const { corpus, index } = order.locate(sample);
    t.is(index, next[corpus]!++);
  }
});

test('where a sample comes from does not depend on what was asked before', (t) => {
  const phases = [
    { firstSample: 0, weights: [3, 1] },
    { firstSample: 1500, weights: [1, 1] },
  ];
  const inOrder = new MixtureOrder(phases, 7);
  const places = Array.from({ length: 4000 }, (_, sample) => inOrder.locate(sample));
  const backwards = new MixtureOrder(phases, 7);
  for (let sample = 3999; sample >= 0; sample -= 37) t.deepEqual(backwards.locate(sample), places[sample]);
});

test('weights that change later change nothing before, also within a block', (t) => {
  const weights = fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 2, maxLength: 2 });
  const lengths = fc.array(fc.integer({ min: 1, max: 3000 }), { maxLength: 3 });
  const property = fc.property(
    ...[lengths, fc.infiniteStream(weights), fc.infiniteStream(weights), fc.nat(2)],
    (lengths, early, late, changed) => {
      const phasesOf = (later: (phase: number) => number[]) =>
        [0, ...lengths].map((_, phase) => ({
          firstSample: lengths.slice(0, phase).reduce((a, b) => a + b, 0),
          weights: later(phase),
        }));
      const drawn = lengths.concat(0).map(() => early.next().value as number[]);
      const before = phasesOf((phase) => drawn[phase]!);
      const after = phasesOf((phase) => (phase < changed ? drawn[phase]! : (late.next().value as number[])));
      const [one, other] = [new MixtureOrder(before, 3), new MixtureOrder(after, 3)];
      const end = Math.min(firstDifference(before, after), 6000);
      for (let sample = 0; sample < end; sample += 1 + (sample % 5)) {
        const [a, b] = [one.locate(sample), other.locate(sample)];
        if (a.corpus !== b.corpus || a.index !== b.index) return false;
      }
      return true;
    },
  );
  t.notThrows(() => fc.assert(property, { numRuns: 40 }));
});

test('phases differ from the first sample on that one of them may mix otherwise', (t) => {
  const phases = (...firstSamples: number[]) =>
    firstSamples.map((firstSample, i) => ({ firstSample, weights: [1, i] }));
  t.is(firstDifference(phases(0, 9), phases(0, 9)), Number.POSITIVE_INFINITY);
  t.is(firstDifference(phases(0, 9), phases(0, 9, 20)), 20);
  t.is(firstDifference(phases(0, 9, 20), phases(0, 7, 20)), 7);
  t.is(firstDifference(phases(0, 9), [{ firstSample: 0, weights: [2, 1] }]), 0);
});

test('a corpus of little weight has a place in every block, however large that must be', (t) => {
  const order = new MixtureOrder([{ firstSample: 0, weights: [10_000, 1] }], 1);
  const counts = countsOf(t, order, 2, 0, 16 * BLOCK_SAMPLES);
  t.true(counts[1]! >= 1 && counts[1]! <= 4, `${counts}`);
});

test('another seed mixes otherwise', (t) => {
  const corpora = (seed: number) => {
    const order = new MixtureOrder([{ firstSample: 0, weights: [1, 1] }], seed);
    return Array.from({ length: 64 }, (_, i) => order.locate(i).corpus);
  };
  t.deepEqual(corpora(1), corpora(1));
  t.notDeepEqual(corpora(1), corpora(2));
});

/** Two corpora of one tokenizer. */
async function twoCorpora(t: ExecutionContext) {
  const folder = new TestFolder(t);
  const prepare = async (name: string, texts: readonly string[], fields: object) =>
    (await prepareData(folder.jsonlRecipe(texts, { name, ...fields }), folder.options)).directory;
  const first = await prepare('stories', stories(80), {});
  const tokenizer = { kind: 'file', path: `${first}/tokenizer.json` };
  const second = await prepare(
    'numbers',
    Array.from(
      { length: 60 },
      (_, i) => `${randomPair(randomKey(i, 'numbers'), 0).join(' and ')} are numbers.`,
    ),
    { tokenizer },
  );
  return { folder, prepare, directories: [first, second] };
}

const configOf = (fields: object) =>
  DataConfig.parse({ mixture: { recipes: ['a', 'b'], weights: [1, 1] }, sequenceLength: 16, ...fields });

test('a sample of a mixture is one of a corpus, which its provenance names', async (t) => {
  const { directories } = await twoCorpora(t);
  const { train, close } = openRunData(configOf({}), 5, directories);
  t.teardown(close);
  const alone = directories.map((directory) =>
    openRunData(DataConfig.parse({ recipe: 'a', sequenceLength: 16 }), 5, [directory]),
  );
  t.teardown(() => alone.forEach((one) => void one.close()));
  const order = new MixtureOrder([{ firstSample: 0, weights: [1, 1] }], 5);
  const [sample, expected] = [new Int32Array(17), new Int32Array(17)];
  for (let i = 0; i < 100; i++) {
    const { corpus, index } = order.locate(i);
    train.read(i, sample);
    alone[corpus]!.train.read(index, expected);
    t.deepEqual(sample, expected);
    t.deepEqual(train.provenance(i), {
      corpus: ['stories', 'numbers'][corpus]!,
      ...alone[corpus]!.train.provenance(index),
    });
  }
});

test('each corpus is validated on its own split, in proportion, and at least one sequence of it', async (t) => {
  const { directories } = await twoCorpora(t);
  const { validation, close } = openRunData(configOf({}), 5, directories);
  t.teardown(close);
  t.deepEqual(
    validation.map(({ name }) => name),
    ['stories', 'numbers'],
  );
  const weighted = (weights: readonly number[]) =>
    validation.map((part, i) => ({ ...part, weight: weights[i]! }));
  t.deepEqual(validationShares(weighted([3, 1]), 8), [6, 2]);
  t.deepEqual(validationShares(weighted([1, 0]), 8), [8, 1]);
  t.deepEqual(validationShares(weighted([0, 0]), 8), [4, 4]);
  const all = validation.map(({ source }) => source.numSequences);
  t.deepEqual(validationShares(validation, 1_000_000), all);
});

test('corpora of different tokenizers are not mixed', async (t) => {
  const { prepare, directories } = await twoCorpora(t);
  const other = await prepare('others', stories(80).reverse(), {
    tokenizer: { kind: 'train', vocabularySize: 310 },
  });
  t.not(loadTokenizer(other).vocabularySize, loadTokenizer(directories[0]!).vocabularySize);
  const opened = (async () => openRunData(configOf({}), 5, [directories[0]!, other]))();
  const error = await failureOf(opened);
  t.is(error.code, 'SLUICE_E_MIXTURE_TOKENIZER');
  t.true(error.message.includes(other));
});

test('a mixture is refused with a reason where it does not fit together', (t) => {
  const reasons: readonly (readonly [fields: object, reason: RegExp])[] = [
    [{ recipe: 'a' }, /either recipe or mixture.*--set data\.recipe=null/],
    [{ mixture: undefined }, /either recipe or mixture/],
    [{ mixture: { recipes: ['a', 'b'], weights: [1] } }, /1 weights for 2 recipes/],
    [{ mixture: { recipes: ['a'], weights: [0] } }, /more than 0/],
    [{ mixture: { recipes: ['a', 'b'], weights: [1, 1e-9] } }, /at least 0.000001 of all/],
    [
      {
        mixture: {
          recipes: ['a'],
          weights: [1],
          schedule: [
            { fromTokens: 100, weights: [1] },
            { fromTokens: 100, weights: [1] },
          ],
        },
      },
      /100 is not after the 100/,
    ],
  ];
  for (const [fields, reason] of reasons) t.throws(() => configOf(fields), { message: reason });
});
