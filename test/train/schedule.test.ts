import { BatchConfig, learningRateAt, OptimizerConfig, ScheduleConfig } from '@sluice/train';
import test from 'ava';

function rates(schedule: object, steps = 100, batch: object = { sequences: 8 }): number[] {
  const config = {
    optimizer: OptimizerConfig.parse({ learningRate: 1 }),
    schedule: ScheduleConfig.parse(schedule),
    training: { steps },
    batch: BatchConfig.parse(batch),
    data: { sequenceLength: 16 },
  };
  return Array.from({ length: steps }, (_, i) => learningRateAt(config, i + 1));
}

const near = (actual: number | undefined, expected: number) => Math.abs(actual! - expected) < 1e-12;

test('the warm-up rises linearly to the peak', (t) => {
  const [first, , , fourth, fifth] = rates({ kind: 'constant', warmupSteps: 4 });
  t.is(first, 0.25);
  t.is(fourth, 1);
  t.is(fifth, 1);
});

test('cosine falls from the peak to the minimum with its half-way point in the middle', (t) => {
  const cosine = rates({ kind: 'cosine', minimumRatio: 0.1 });
  t.true(near(cosine[49], 0.55));
  t.true(near(cosine[99], 0.1));
  t.true(cosine.every((rate, i) => i === 0 || rate <= cosine[i - 1]!));
});

test('linear falls in a straight line', (t) => {
  const linear = rates({ kind: 'linear', minimumRatio: 0 });
  t.true(near(linear[24], 0.75));
  t.true(near(linear[99], 0));
});

test('wsd stays at the peak and decays only at the end', (t) => {
  const wsd = rates({ kind: 'wsd', decaySteps: 20, minimumRatio: 0 });
  t.is(wsd[79], 1);
  t.true(near(wsd[89], 0.5));
  t.true(near(wsd[99], 0));
});

test('wsd without decay stays at the peak to the end', (t) => {
  t.deepEqual(new Set(rates({ kind: 'wsd', decaySteps: 0, minimumRatio: 0 })), new Set([1]));
});

test('wsd takes a tenth of the run for its decay, and no step of the warm-up', (t) => {
  const wsd = rates({ kind: 'wsd', minimumRatio: 0 });
  t.is(wsd[89], 1);
  t.true(near(wsd[90], 0.9));
  const mostlyWarmup = rates({ kind: 'wsd', warmupSteps: 98, minimumRatio: 0 });
  t.is(mostlyWarmup[97], 1);
  t.true(near(mostlyWarmup[98], 0.5));
  t.is(rates({ kind: 'wsd', warmupSteps: 100, minimumRatio: 0 })[99], 1);
});

test('wsd may decay by one minus a root, or by a cosine', (t) => {
  const decay = { kind: 'wsd', decaySteps: 20, minimumRatio: 0.1 } as const;
  for (const [decayShape, shape] of [
    ['sqrt', (x: number) => 1 - Math.sqrt(x)],
    ['cosine', (x: number) => (1 + Math.cos(Math.PI * x)) / 2],
    ['linear', (x: number) => 1 - x],
  ] as const) {
    const wsd = rates({ ...decay, decayShape });
    t.true(wsd.slice(0, 80).every((rate) => rate === 1));
    for (let step = 81; step <= 100; step++) {
      t.true(near(wsd[step - 1], 0.1 + 0.9 * shape((step - 80) / 20)), `${decayShape} at step ${step}`);
    }
  }
});

test('a rate that is a function of tokens follows a growing batch', (t) => {
  // 10 steps of 2 sequences, 10 of 4, 80 of 8: 700 sequences.
  const batch = { sequences: 8, ramp: { from: 2, steps: 20 } };
  const samples = (step: number) =>
    2 * Math.min(step, 10) + 4 * Math.min(Math.max(step - 10, 0), 10) + 8 * Math.max(step - 20, 0);
  const shapes = {
    linear: (x: number) => 1 - x,
    cosine: (x: number) => (1 + Math.cos(Math.PI * x)) / 2,
  };
  for (const kind of ['linear', 'cosine'] as const) {
    const byTokens = rates({ kind, unit: 'tokens', warmupSteps: 15, minimumRatio: 0 }, 100, batch);
    for (let step = 1; step <= 100; step++) {
      const expected =
        step <= 15 ? samples(step) / 40 : shapes[kind]((samples(step) - 40) / (samples(100) - 40));
      t.true(near(byTokens[step - 1], expected), `${kind} at step ${step}`);
    }
  }
  const late = { kind: 'wsd', warmupSteps: 0, decaySteps: 90, minimumRatio: 0, decayShape: 'sqrt' };
  const decayed = rates({ ...late, unit: 'tokens' }, 100, batch);
  t.true(near(decayed[14], 1 - Math.sqrt((samples(15) - samples(10)) / (samples(100) - samples(10)))));
  t.true(near(rates(late, 100, batch)[14], 1 - Math.sqrt(5 / 90)));
});

test('steps and tokens give the same bits where the batch does not grow', (t) => {
  for (const kind of ['cosine', 'linear', 'wsd', 'constant']) {
    const schedule = { kind, warmupSteps: 7, minimumRatio: 0.1 };
    t.deepEqual(rates({ ...schedule, unit: 'tokens' }), rates(schedule));
  }
});
