import test from 'ava';
import fc from 'fast-check';
import { FindLrConfig } from '../../../launcher/src/experiment/config.ts';
import { bisect, ratesOf } from '../../../launcher/src/experiment/findLr.ts';

test('halving finds the border wherever it is, in as few questions as that takes', async (t) => {
  const holds = fc.asyncProperty(fc.integer({ min: 1, max: 40 }), fc.nat(), async (places, number) => {
    const border = number % (places + 1);
    let asked = 0;
    const found = await bisect(places, async (place) => {
      asked++;
      return place < border;
    });
    return (
      found.stable === (border === 0 ? undefined : border - 1) &&
      found.unstable === (border === places ? undefined : border) &&
      asked <= Math.ceil(Math.log2(places + 1))
    );
  });
  await t.notThrowsAsync(() => fc.assert(holds));
});

test('rates go from the lowest to the highest in equal ratios, and are written in four digits', (t) => {
  t.deepEqual(ratesOf(FindLrConfig.parse({ from: 1e-3, to: 8e-3, perOctave: 1 })), [1e-3, 2e-3, 4e-3, 8e-3]);
  t.deepEqual(ratesOf(FindLrConfig.parse({ from: 1e-3, to: 2.5e-3, perOctave: 2 })), [1e-3, 1.414e-3, 2e-3]);
});

test('a search whose highest rate is not above its lowest is refused', (t) => {
  t.false(FindLrConfig.safeParse({ from: 1, to: 0.1 }).success);
});
