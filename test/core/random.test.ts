import { fillNormal, randomKey, randomUniform } from '@sluice/core';
import test from 'ava';
import fc from 'fast-check';

test('filling a tensor in parts gives the numbers of filling it whole', (t) => {
  fc.assert(
    fc.property(
      fc.integer(),
      fc.integer({ min: 0, max: 200 }),
      fc.integer({ min: 0, max: 200 }),
      (seed, head, tail) => {
        const key = randomKey(seed, 'init', 'weight');
        const whole = new Float32Array(head + tail);
        fillNormal(key, whole, 0.02);
        const parts = new Float32Array(head + tail);
        fillNormal(key, parts.subarray(0, head), 0.02);
        fillNormal(key, parts.subarray(head), 0.02, head);
        return Buffer.from(whole.buffer).equals(Buffer.from(parts.buffer));
      },
    ),
  );
  t.pass();
});

test('normal numbers have mean 0 and the asked deviation, uniform ones mean one half', (t) => {
  const values = new Float32Array(200_000);
  fillNormal(randomKey(1, 'normal'), values, 0.5);
  const mean = values.reduce((sum, v) => sum + v, 0) / values.length;
  const variance = values.reduce((sum, v) => sum + v * v, 0) / values.length;
  t.true(Math.abs(mean) < 0.005);
  t.true(Math.abs(Math.sqrt(variance) - 0.5) < 0.005);

  const key = randomKey(1, 'uniform');
  let sum = 0;
  for (let i = 0; i < 100_000; i++) sum += randomUniform(key, i);
  t.true(Math.abs(sum / 100_000 - 0.5) < 0.005);
});

test('different purposes give different streams', (t) => {
  t.not(randomUniform(randomKey(1, 'a'), 0), randomUniform(randomKey(1, 'b'), 0));
});
