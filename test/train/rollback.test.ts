import {
  decideRollback,
  firstSampleOf,
  type Rollback,
  RunConfig,
  rateFactorAt,
  sequencesAt,
  withRollback,
} from '@sluice/train';
import test from 'ava';
import fc from 'fast-check';

const BATCH = 8;

const configOf = (spikes: object = {}, everySteps = 100, batch: object = { sequences: BATCH }) =>
  RunConfig.parse({
    model: {
      ...{ vocabularySize: 8, hiddenSize: 8, numLayers: 1, numAttentionHeads: 1, headDim: 8 },
      ...{ numKeyValueHeads: 1, intermediateSize: 8 },
    },
    data: { recipe: 'none', sequenceLength: 8 },
    batch,
    training: { steps: 1000 },
    optimizer: { learningRate: 0.01 },
    checkpoint: { everySteps },
    spikes: { policy: 'rollback', ...spikes },
  });

/** The decisions after a spike on top of earlier ones. */
function decide(config: RunConfig, step: number, root: number, earlier: readonly Rollback[] = []) {
  return decideRollback(config, { step, root }, earlier, (s) => firstSampleOf(config, s, earlier));
}

test('a run goes back to the newest state before the spike began', (t) => {
  const config = configOf();
  t.like(decide(config, 163, 158), { to: 150, level: 1, nextSample: 163 * BATCH });
  // The update of step 150 is in the state of step 150, and its own loss was the first that was high.
  t.like(decide(config, 154, 150), { to: 125 });
  t.like(decide(config, 12, 8), { to: 0 });
  t.like(decide(configOf({ snapshotEverySteps: 10 }), 163, 158), { to: 150 });
  t.like(decide(configOf({ snapshotEverySteps: 0 }), 163, 158), { to: 100 });
  t.like(decide(configOf({ snapshotEverySteps: 0 }, 0), 163, 158), { to: 0 });
});

test('a spike that follows a rollback leads further back each time, and at last nowhere', (t) => {
  const config = configOf({ window: 50, warmupSteps: 10 });
  const first = decide(config, 463, 458)!;
  const second = decide(config, 470, 465, [first])!;
  const third = decide(config, 480, 475, [second])!;
  t.deepEqual(
    [first, second, third].map(({ to, level }) => [to, level]),
    [
      [450, 1],
      [425, 2],
      [375, 3],
    ],
  );
  t.is(decide(config, 490, 485, [third]), undefined);
  t.like(decide(config, third.step + 51, third.step + 50, [third]), { level: 1 });
});

test('samples that were left out stay so, however often the run went back', (t) => {
  const config = configOf();
  const first = decide(config, 163, 158)!;
  let rollbacks = withRollback([], first);
  t.is(firstSampleOf(config, 150, rollbacks), 149 * BATCH);
  t.is(firstSampleOf(config, 151, rollbacks), 163 * BATCH);
  t.is(firstSampleOf(config, 160, rollbacks), 172 * BATCH);
  const second = decide(config, 170, 165, rollbacks)!;
  t.is(second.nextSample, 183 * BATCH);
  rollbacks = withRollback(rollbacks, second);
  t.is(rollbacks.length, 1);
  t.is(firstSampleOf(config, second.to + 1, rollbacks), 183 * BATCH);
  t.is(firstSampleOf(config, second.to, rollbacks), (second.to - 1) * BATCH);
});

test('the rate is lower for some steps after going back, and lower still the second time', (t) => {
  const config = configOf({ rateFactor: 0.5, rateSteps: 40 });
  const first = decide(config, 163, 158)!;
  const factors = (rollbacks: readonly Rollback[]) =>
    [150, 151, 190, 191].map((step) => rateFactorAt(rollbacks, step));
  t.deepEqual(factors([first]), [1, 0.5, 0.5, 1]);
  const second = decide(config, 170, 165, [first])!;
  t.is(rateFactorAt([second], second.to + 1), 0.25);
  t.deepEqual(factors([]), [1, 1, 1, 1]);
  t.is(rateFactorAt([decide(configOf(), 163, 158)!], 151), 1);
});

const batches = {
  '': { sequences: BATCH },
  ', while the batch grows': { sequences: 4 * BATCH, ramp: { from: BATCH, increment: BATCH, steps: 90 } },
};
for (const [name, batch] of Object.entries(batches)) {
  test(`no sample is seen twice, whatever spikes come${name}`, (t) => {
    const spikes = { window: 16, warmupSteps: 8, maxRollbacks: 50, snapshotEverySteps: 7 };
    const config = configOf(spikes, 100, batch);
    const spike = fc.record({
      after: fc.integer({ min: 1, max: 60 }),
      lasted: fc.integer({ min: 0, max: 20 }),
    });
    fc.assert(
      fc.property(fc.array(spike, { maxLength: 12 }), (spikes) => {
        let rollbacks: Rollback[] = [];
        let step = 0;
        let seen = 0;
        for (const { after, lasted } of spikes) {
          for (let i = 0; i < after; i++) {
            step++;
            const first = firstSampleOf(config, step, rollbacks);
            if (first < seen) return false;
            seen = first + sequencesAt(config, step);
          }
          const next = decide(config, step, Math.max(1, step - lasted), rollbacks);
          if (!next) return true;
          rollbacks = withRollback(rollbacks, next);
          step = next.to;
        }
        return true;
      }),
    );
    t.pass();
  });
}
