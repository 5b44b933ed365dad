import { relativeUpdate, SpikeDetector, type SpikeEvent, SpikesConfig } from '@sluice/train';
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
  t.is(detector.state().windows.loss?.length, 32);
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

/** Norms that double over the warm-up of the learning rate, and stay. */
const warmingUp = (step: number) => (1 + Math.min(1, step / 100)) * (1 + 0.02 * Math.sin(step * 7.13));

test('a norm that rises with the learning rate is no spike, a jump on top of it is', (t) => {
  const detector = new SpikeDetector(SpikesConfig.parse({}));
  const events = Array.from({ length: 200 }, (_, i) =>
    detector.observe({ step: i + 1, loss: ordinary(i), gradientNorm: warmingUp(i) * (i === 80 ? 4 : 1) }),
  );
  t.deepEqual(
    events.flatMap((event) => event?.step ?? []),
    [81],
  );
});

test('the limits told before a step are what it is judged by', (t) => {
  const detector = new SpikeDetector(SpikesConfig.parse({}));
  t.is(detector.limits(), undefined);
  for (let i = 0; i < 40; i++)
    detector.observe({ step: i + 1, loss: ordinary(i), gradientNorm: warmingUp(i) });
  const { loss, gradientNorm } = detector.limits()!;
  t.true(loss > ordinary(39) && loss < ordinary(39) + 0.5 && gradientNorm >= 1.5 * warmingUp(20));
  const copy = () => {
    const other = new SpikeDetector(SpikesConfig.parse({}));
    other.restore(detector.state());
    return other;
  };
  t.is(copy().observe({ step: 41, loss, gradientNorm }), undefined);
  t.is(copy().observe({ step: 41, loss: loss * (1 + 1e-12), gradientNorm })?.signal, 'loss');
  t.is(copy().observe({ step: 41, loss, gradientNorm: gradientNorm * (1 + 1e-12) })?.signal, 'gradientNorm');
});

test('an event tells what moved first, in which group and by how much', (t) => {
  const detector = new SpikeDetector(SpikesConfig.parse({}));
  const observe = (step: number, loss: number, router: number) =>
    detector.observe({ step, loss, gradientNorm: 1, groupNorms: { router, attention: 0.5 } });
  for (let step = 1; step <= 60; step++) observe(step, ordinary(step), 0.1);
  t.is(observe(61, ordinary(61), 0.5), undefined);
  t.is(observe(62, ordinary(62), 0.1), undefined);
  const event = observe(63, ordinary(63) + 1, 0.1);
  t.like(event, { step: 63, signal: 'loss', first: { signal: 'gradientNorm.router', step: 61 } });
  t.true(Math.abs(event!.first!.ratio! - 5) < 1e-9);
  for (let step = 64; step <= 80; step++) t.is(observe(step, ordinary(step), 0.1), undefined);
  t.like(observe(81, ordinary(81) + 1, 0.1), { first: { signal: 'loss', step: 81 } });
});

test('the update of the step before is what a spike begins with, by its group, and makes none itself', (t) => {
  const detector = new SpikeDetector(SpikesConfig.parse({}));
  const observe = (step: number, loss: number, router: number | undefined) =>
    detector.observe({
      ...{ step, loss, gradientNorm: 1 },
      lastUpdate: router === undefined ? undefined : { overall: 2, groups: { router, attention: 3 } },
    });
  for (let step = 1; step <= 60; step++) observe(step, ordinary(step), step % 7 === 0 ? undefined : 0.5);
  const copy = () => {
    const other = new SpikeDetector(SpikesConfig.parse({}));
    other.restore(JSON.parse(JSON.stringify(detector.state())));
    return other;
  };
  const alike = copy().observe({
    ...{ step: 61, loss: ordinary(61) + 3, gradientNorm: 9 },
    lastUpdate: { overall: 2, groups: { router: 1, attention: 3 } },
  });
  // The norm and the loss are further out, but the update came before them.
  t.like(alike, { step: 61, signal: 'loss', first: { signal: 'update.router', step: 60, ratio: 2 } });
  t.is(observe(61, ordinary(61), Number.NaN), undefined);
  const event = observe(62, ordinary(62) + 1, 0.5);
  t.like(event, { signal: 'loss', first: { signal: 'update.router', step: 60, ratio: null } });
});

test('an update is judged relative to the rate that was meant; at a rate of zero there is none to judge', (t) => {
  const update = { overall: 0.003, groups: { router: 0.006 } };
  t.deepEqual(relativeUpdate(update, 0.5), { overall: 0.006, groups: { router: 0.012 } });
  t.is(relativeUpdate(update, 0), undefined);
});

test('steps in a row that are spikes are counted, across a restart too', (t) => {
  const detector = new SpikeDetector(SpikesConfig.parse({}));
  for (let i = 0; i < 50; i++) detector.observe({ step: i, loss: ordinary(i), gradientNorm: 1 });
  detector.observe({ step: 50, loss: 9, gradientNorm: 1 });
  const after = new SpikeDetector(SpikesConfig.parse({}));
  after.restore(JSON.parse(JSON.stringify(detector.state())));
  after.observe({ step: 51, loss: Number.NaN, gradientNorm: Number.NaN });
  t.is(after.inARow, 2);
  t.is(after.first?.step, 50);
  after.observe({ step: 52, loss: ordinary(52), gradientNorm: 1 });
  t.is(after.inARow, 0);
});

test('a detector takes over what earlier versions saved', (t) => {
  const values = Array.from({ length: 64 }, (_, i) => ordinary(i));
  const old = {
    loss: values,
    gradientNorm: values.map(() => 1),
    outliersInARow: { loss: 0, gradientNorm: 0 },
  };
  const detector = new SpikeDetector(SpikesConfig.parse({}));
  detector.restore(old as never);
  t.is(detector.observe({ step: 65, loss: ordinary(64) + 1, gradientNorm: 1 })?.signal, 'loss');
});

test('what is measured every so many steps may be what a spike begins with, and makes none', (t) => {
  const detector = new SpikeDetector(SpikesConfig.parse({}));
  const measure = (step: number, attentionLogit: number) =>
    detector.observeMeasured(step, {
      ...{ attentionLogit, activation: 3, routerPreference: undefined, deadExperts: 1 },
    });
  for (let step = 1; step <= 100; step++) {
    detector.observe({ step, loss: ordinary(step), gradientNorm: 1 });
    if (step % 10 === 0) measure(step, step === 100 ? 40 : 10);
  }
  const event = detector.observe({ step: 101, loss: ordinary(101) + 1, gradientNorm: 1 });
  t.like(event, { signal: 'loss', first: { signal: 'measured.attentionLogit', step: 100 } });
  t.true(Math.abs(event!.first!.ratio! - 4) < 1e-9);
  const after = new SpikeDetector(SpikesConfig.parse({}));
  after.restore(JSON.parse(JSON.stringify(detector.state())));
  t.deepEqual(after.state(), detector.state());
});
