import { learningRateAt, OptimizerConfig, ScheduleConfig } from '@sluice/train';
import test from 'ava';

function rates(schedule: object, steps = 100): number[] {
  const config = {
    optimizer: OptimizerConfig.parse({ learningRate: 1 }),
    schedule: ScheduleConfig.parse(schedule),
    training: { steps },
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
