import { SpikeDetector, type SpikeEvent, SpikesConfig } from '@sluice/train';
import test from 'ava';

/** A loss that falls slowly, with small deterministic noise. */
const ordinary = (step: number) => 3 - step * 0.001 + 0.02 * Math.sin(step * 12.9898);

function detect(
  losses: readonly number[],
  detector = new SpikeDetector(SpikesConfig.parse({})),
  first = 1,
): SpikeEvent[] {
  return losses.flatMap(
    (loss, i) => detector.observe({ step: first + i, loss, gradientNorm: 1 + 0.01 * Math.sin(i) }) ?? [],
  );
}

test('an ordinary curve has no spikes', (t) => {
  t.deepEqual(detect(Array.from({ length: 500 }, (_, i) => ordinary(i))), []);
});

test('a sudden rise of the loss is a spike, with its excess over the median', (t) => {
  const losses = Array.from({ length: 200 }, (_, i) => ordinary(i) + (i === 150 ? 1 : 0));
  const [spike, ...others] = detect(losses);
  t.deepEqual(others, []);
  t.is(spike?.step, 151);
  t.is(spike?.signal, 'loss');
  t.true(Math.abs(spike!.excess - 1) < 0.1);
});

test('a window shorter than the warm-up holds the warm-up', (t) => {
  const detector = new SpikeDetector(SpikesConfig.parse({ window: 8, warmupSteps: 32 }));
  const losses = Array.from({ length: 60 }, (_, i) => ordinary(i) + (i === 50 ? 1 : 0));
  t.deepEqual(
    detect(losses, detector).map(({ step }) => step),
    [51],
  );
  t.is(detector.state().loss.length, 32);
});

test('a spike does not hide the next one, since it stays out of the window', (t) => {
  const losses = Array.from(
    { length: 260 },
    (_, i) => ordinary(i) + (i >= 150 && i < 190 ? 2 : 0) + (i === 200 ? 0.5 : 0),
  );
  const steps = detect(losses).map(({ step }) => step);
  t.is(steps.length, 41);
  t.is(steps.at(-1), 201);
});

test('a lasting change of level is accepted in the end', (t) => {
  const losses = Array.from({ length: 400 }, (_, i) => ordinary(i) + (i >= 150 ? 2 : 0));
  const steps = detect(losses).map(({ step }) => step);
  t.true(steps.length > 0 && steps.at(-1)! < 250);
});

test('a restored detector sees what the uninterrupted one sees', (t) => {
  const losses = Array.from({ length: 300 }, (_, i) => ordinary(i) + (i % 70 === 69 ? 0.8 : 0));
  const whole = detect(losses);
  const before = new SpikeDetector(SpikesConfig.parse({}));
  const head = detect(losses.slice(0, 137), before);
  const after = new SpikeDetector(SpikesConfig.parse({}));
  after.restore(JSON.parse(JSON.stringify(before.state())));
  const tail = losses
    .slice(137)
    .flatMap(
      (loss, i) => after.observe({ step: 138 + i, loss, gradientNorm: 1 + 0.01 * Math.sin(137 + i) }) ?? [],
    );
  t.true(whole.length > 0);
  t.deepEqual([...head, ...tail], whole);
});

test('a jump of the gradient norm alone is a spike too, and a non-finite value is never ordinary', (t) => {
  const detector = new SpikeDetector(SpikesConfig.parse({}));
  const events = Array.from({ length: 100 }, (_, i) =>
    detector.observe({
      step: i + 1,
      loss: i === 90 ? Number.NaN : ordinary(i),
      gradientNorm: i === 80 ? 30 : 1 + 0.01 * Math.sin(i),
    }),
  );
  t.is(events[80]?.signal, 'gradientNorm');
  t.is(events[90]?.signal, 'loss');
  t.is(events.filter(Boolean).length, 2);
});
