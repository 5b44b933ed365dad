import { BatchConfig, samplesBefore, sequencesAt, stepsOfTokens } from '@sluice/train';
import test from 'ava';
import fc from 'fast-check';
import { lanesOf, trainingGrain } from '../../packages/train/src/batches.ts';
import { counting, tinyRun } from './support/tinyTrainer.ts';

const LENGTH = 16;

function batches(batch: object) {
  return { batch: BatchConfig.parse(batch), data: { sequenceLength: LENGTH } };
}

function sizes(batch: object, steps: number): number[] {
  return Array.from({ length: steps }, (_, i) => sequencesAt(batches(batch), i + 1));
}

test('without a ramp all steps have as many sequences', (t) => {
  t.deepEqual(sizes({ sequences: 8 }, 4), [8, 8, 8, 8]);
  t.is(samplesBefore(batches({ sequences: 8 }), 1), 0);
  t.is(samplesBefore(batches({ sequences: 8 }), 1001), 8000);
});

test('a batch doubles, or grows by increments, with equal shares of the steps', (t) => {
  t.deepEqual(sizes({ sequences: 16, ramp: { from: 4, steps: 4 } }, 6), [4, 4, 8, 8, 16, 16]);
  t.deepEqual(
    sizes({ sequences: 10, ramp: { from: 4, increment: 2, steps: 5 } }, 7),
    [4, 6, 6, 8, 8, 10, 10],
  );
});

test('a ramp of fewer steps than sizes still begins with its first size', (t) => {
  t.deepEqual(sizes({ sequences: 16, ramp: { from: 4, increment: 4, steps: 1 } }, 3), [4, 16, 16]);
  t.deepEqual(sizes({ sequences: 24, ramp: { from: 4, increment: 4, steps: 3 } }, 4), [4, 16, 20, 24]);
});

test('more sequences, and a ramp of more sizes, than can be counted out are refused', (t) => {
  const { error } = BatchConfig.safeParse({ sequences: 1e6, ramp: { from: 2, increment: 2, tokens: 1e12 } });
  t.regex(error!.message, /2 from 2 to 1000000 sequences would be 499999 sizes, more than 10000/);
  t.regex(BatchConfig.safeParse({ sequences: 1e9 }).error!.message, /"maximum": 67108864/);
});

test('with a ramp over tokens each size has an equal share of these', (t) => {
  // A half of 48 sequences each: 6 steps of 4, 3 of 8.
  t.deepEqual(sizes({ sequences: 16, ramp: { from: 4, tokens: 48 * LENGTH } }, 10), [
    ...Array(6).fill(4),
    ...Array(3).fill(8),
    16,
  ]);
  // 25 sequences each: what the first size has too many, the second has less.
  t.deepEqual(sizes({ sequences: 16, ramp: { from: 4, tokens: 50 * LENGTH } }, 11), [
    ...Array(7).fill(4),
    ...Array(3).fill(8),
    16,
  ]);
  t.deepEqual(sizes({ sequences: 16, ramp: { from: 4, tokens: 1 } }, 2), [4, 16]);
});

test('samples and steps of tokens are what adding up the steps gives', (t) => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 4 }),
      fc.integer({ min: 1, max: 5 }),
      fc.boolean(),
      fc.boolean(),
      fc.integer({ min: 5, max: 200 }),
      (from, growths, doubles, byTokens, length) => {
        const ramp = {
          from,
          ...(doubles ? {} : { increment: 2 }),
          ...(byTokens ? { tokens: length * LENGTH } : { steps: length }),
        };
        const config = batches({ sequences: doubles ? from * 2 ** growths : from + 2 * growths, ramp });
        let samples = 0;
        for (let step = 1; step <= 300; step++) {
          if (samplesBefore(config, step) !== samples) return false;
          const begun = samples;
          samples += sequencesAt(config, step);
          // The fewest steps: one token more than the steps before have already needs this one.
          if (stepsOfTokens(config, begun * LENGTH + 1) !== step) return false;
          if (stepsOfTokens(config, samples * LENGTH) !== step) return false;
        }
        return samples > 0;
      },
    ),
  );
  t.pass();
});

test('the grains of each step follow those of the step before, and its lanes hold each once', (t) => {
  const config = tinyRun({ batch: { sequences: 16, grainSequences: 2, ramp: { from: 4, steps: 4 } } });
  const source = counting(1);
  let next = 0;
  for (let step = 1; step <= 6; step++) {
    const grains = lanesOf(config, step, 0, 1).flat();
    t.deepEqual(
      [0, 1].flatMap((rank) => lanesOf(config, step, rank, 2).flat()),
      grains,
    );
    t.deepEqual(grains, [...grains.keys()]);
    const first = next;
    t.is(samplesBefore(config, step), first);
    for (const grain of grains) {
      const { inputs, sequences } = trainingGrain(source, config, first, grain);
      t.is(sequences, 2);
      t.is(inputs[0], (next * 5) % 24);
      next += sequences;
    }
  }
  t.is(next, 4 + 4 + 8 + 8 + 16 + 16);
});
