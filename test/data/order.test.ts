import { randomKey } from '@sluice/core';
import { permute } from '@sluice/data';
import test from 'ava';
import fc from 'fast-check';

const seeds = fc.integer({ min: 0, max: 2 ** 31 });

test('every index of a domain of any size has exactly one image in it', (t) => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 700 }), seeds, (size, seed) => {
      const key = randomKey(seed, 'order', 0);
      const images = new Set(Array.from({ length: size }, (_, index) => permute(key, size, index)));
      t.is(images.size, size);
      t.true([...images].every((image) => image >= 0 && image < size && Number.isInteger(image)));
    }),
    { numRuns: 60 },
  );
});

test('huge domains stay in range and give different images to neighbours', (t) => {
  const size = 2 ** 47 + 12345;
  const key = randomKey(1, 'order', 0);
  const images = Array.from({ length: 200 }, (_, i) => permute(key, size, size - 200 + i));
  t.is(new Set(images).size, 200);
  t.true(images.every((image) => image >= 0 && image < size));
});

test('another key gives another order, the same key the same one', (t) => {
  const order = (seed: number) =>
    Array.from({ length: 100 }, (_, i) => permute(randomKey(seed, 'order', 0), 100, i));
  t.deepEqual(order(7), order(7));
  t.notDeepEqual(order(7), order(8));
});

test('elements move far: the mean distance is that of a random order', (t) => {
  const size = 3000;
  const key = randomKey(3, 'order', 1);
  let distance = 0;
  for (let i = 0; i < size; i++) distance += Math.abs(permute(key, size, i) - i);
  // A uniformly random permutation moves an element by a third of the domain on average.
  t.true(Math.abs(distance / size / size - 1 / 3) < 0.03);
});
