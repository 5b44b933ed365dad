import { hostArray } from '@sluice/engine';
import type { LossParts } from '@sluice/model';
import { readGrain, type TokenSource } from '@sluice/train';
import test from 'ava';
import { tinyRun, tinyTrainer } from './support/tinyTrainer.ts';

const END = 0;
const BEGIN = 1;

/** A source of given sequences, of inputs and one target more. */
function sourceOf(
  sequences: readonly (readonly number[])[],
  marks?: TokenSource['documentMarks'],
): TokenSource {
  return {
    numSequences: sequences.length,
    sequenceLength: sequences[0]!.length - 1,
    documentMarks: marks,
    read: (sample, target) => target.set(sequences[sample % sequences.length]!),
  };
}

const startsOf = (sequences: readonly (readonly number[])[], marks: TokenSource['documentMarks']) => {
  const { documents } = readGrain(sourceOf(sequences, marks), 0, 0, sequences.length);
  return documents && [...documents];
};

test('a document begins with each sequence and after each end of another', (t) => {
  const sequences = [
    [5, 6, END, 7, END, 8],
    [END, 9, 9, 9, 9, END],
  ];
  t.deepEqual(startsOf(sequences, { end: END, begin: undefined }), [0, 3, 5, 6]);
  t.is(startsOf(sequences, undefined), undefined);
});

test('where documents begin with a token, they begin there, even where the same token ends them', (t) => {
  t.deepEqual(startsOf([[5, END, BEGIN, 7, END, BEGIN, 8]], { end: END, begin: BEGIN }), [0, 2, 5]);
  t.deepEqual(startsOf([[5, END, END, 7, END, END, 8]], { end: END, begin: END }), [0, 2, 5]);
  t.deepEqual(startsOf([[END, END, 7, 7, 7, END, END]], { end: END, begin: END }), [0, 1]);
});

test.serial('the loss of a document does not depend on its neighbours, to the last bit', async (t) => {
  const document = [9, 4, 17, 11, 3, END];
  const trainer = await tinyTrainer(tinyRun());
  // So that attention and experts see something.
  for (const { space } of trainer.spaces) {
    for (let i = 0; i < hostArray(space.memories[0]!.values).length; i++)
      hostArray(space.memories[0]!.values)[i]! += ((i * 37) % 19) / 40;
  }
  const lossWithin = (before: readonly number[], after: readonly number[]) => {
    const inputs = Int32Array.of(...before, ...document, ...after);
    // Only the tokens of the document itself are predicted.
    const targets = new Int32Array(inputs.length).fill(-1);
    targets.set(document.slice(1), before.length);
    const starts = [0, before.length, before.length + document.length];
    const documents = Int32Array.from(new Set(starts.filter((start) => start < inputs.length)));
    let sum = Number.NaN;
    const onParts = ({ crossEntropySum }: LossParts) => {
      sum = crossEntropySum;
    };
    const request = { inputs, targets, documents, sequences: 1, totalTokens: 8, expertLoads: [], onParts };
    trainer.model.loss(request).dispose();
    return sum;
  };
  const alone = lossWithin([], []);
  t.true(alone > 0);
  for (const [before, after] of [
    [[END], []],
    [
      [5, 6, END],
      [7, 8, 9],
    ],
    [Array.from({ length: 67 }, (_, i) => 2 + (i % 20)), [20]],
    [[], Array.from({ length: 200 }, (_, i) => 2 + (i % 21))],
  ] as const) {
    t.is(lossWithin(before, after), alone, `${before.length} before, ${after.length} after`);
  }
});

test.serial(
  'training on separate documents differs from packed ones, and not where each sequence is one',
  async (t) => {
    const sequences = [
      [5, 6, 7, 8, 9, 10, 11, 12, END],
      [5, 6, END, 8, 9, END, 11, 12, END],
    ];
    const lossesOf = async (which: readonly number[], marks: TokenSource['documentMarks']) => {
      const source = sourceOf(
        which.map((i) => sequences[i]!),
        marks,
      );
      const trainer = await tinyTrainer(tinyRun(), { source });
      const losses: number[] = [];
      for (let step = 1; step <= 3; step++)
        losses.push((await trainer.trainStep({ step, learningRate: 0.05 })).loss);
      return losses;
    };
    const marks = { end: END, begin: undefined };
    t.deepEqual(await lossesOf([0], marks), await lossesOf([0], undefined));
    t.notDeepEqual(await lossesOf([0, 1], marks), await lossesOf([0, 1], undefined));
  },
);
