import { episodesOf, SpikeDetector, type SpikeEvent, SpikesConfig } from '@sluice/train';
import test from 'ava';

/** A loss that falls slowly, with small deterministic noise. */
const ordinary = (step: number) => 3 - step * 0.001 + 0.02 * Math.sin(step * 12.9898);

/** The outliers of a curve whose points are `distance` steps apart. */
function outliersAt(indices: readonly number[], { distance = 1, norms = true } = {}): SpikeEvent[] {
  const detector = new SpikeDetector(SpikesConfig.parse({}));
  return Array.from({ length: 300 }, (_, i) => i).flatMap((i) => {
    const loss = ordinary(i) + (indices.includes(i) ? 0.5 + i / 1000 : 0);
    return detector.observe({ step: i * distance, loss, ...(norms && { gradientNorm: 1 }) }) ?? [];
  });
}

test('outlying points with fewer than eight ordinary ones between are one episode', (t) => {
  const spans = (indices: readonly number[], options = {}) =>
    episodesOf(outliersAt(indices, options)).map(({ start, end, points }) => [start, end, points]);
  t.deepEqual(spans([100, 108]), [[100, 108, 2]]);
  t.deepEqual(spans([100, 109]), [
    [100, 100, 1],
    [109, 109, 1],
  ]);
  t.deepEqual(spans([100, 105, 112, 200]), [
    [100, 112, 3],
    [200, 200, 1],
  ]);
  // Of a curve that was sampled, points count, however far apart their steps are.
  t.deepEqual(spans([100, 108, 117], { distance: 1000 }), [
    [100_000, 108_000, 2],
    [117_000, 117_000, 1],
  ]);
});

test('an episode tells its highest loss and what it began with', (t) => {
  const [episode, ...others] = episodesOf(outliersAt([100, 104, 103]));
  t.deepEqual(others, []);
  t.like(episode, { start: 100, peak: 104, end: 104, signal: 'loss', first: { signal: 'loss', step: 100 } });
  t.true(Math.abs(episode!.excess - 0.6) < 0.1);
});

test('a loss that is not a number is higher than any, and a jump of the norm beside it is not the peak', (t) => {
  const detector = new SpikeDetector(SpikesConfig.parse({}));
  const values = [
    { loss: 3, gradientNorm: 900 },
    { loss: 5, gradientNorm: 1 },
    { loss: Number.NaN, gradientNorm: Number.NaN },
    { loss: 9, gradientNorm: 1 },
  ];
  for (let step = 1; step <= 60; step++) detector.observe({ step, loss: ordinary(step), gradientNorm: 1 });
  const events = values.flatMap((value, i) => detector.observe({ step: 61 + i, ...value }) ?? []);
  t.like(episodesOf(events.slice(0, 2))[0], { start: 61, peak: 62, signal: 'loss', value: 5 });
  t.like(episodesOf(events)[0], { start: 61, end: 64, points: 4, peak: 63 });
});

test('a curve without gradient norms is judged by its loss, as one with ordinary norms is', (t) => {
  const indices = [100, 150, 151];
  const withNorms = outliersAt(indices);
  t.is(withNorms.length, 3);
  t.deepEqual(outliersAt(indices, { norms: false }), withNorms);
});

test('steps that a run took again after going back are another episode', (t) => {
  const [event] = outliersAt([100]) as [SpikeEvent];
  const at = (step: number) => ({ ...event, step });
  t.deepEqual(
    episodesOf([at(100), at(101), at(100), at(102)]).map(({ start, end }) => [start, end]),
    [
      [100, 101],
      [100, 102],
    ],
  );
});

test('events of older versions, which tell no first move, are put together by their steps', (t) => {
  const [{ first, ...event }] = outliersAt([100]) as [SpikeEvent];
  t.truthy(first);
  t.deepEqual(
    episodesOf([100, 108, 117].map((step) => ({ ...event, step }))).map(({ start, end }) => [start, end]),
    [
      [100, 108],
      [117, 117],
    ],
  );
});
