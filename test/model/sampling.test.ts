import { randomKey } from '@sluice/core';
import { sampleToken } from '@sluice/model';
import test from 'ava';

const logits = Float32Array.of(0, 2, 1, -1);
const key = randomKey(1, 'generate');

test('temperature 0 takes the most likely token, the first of equals', (t) => {
  t.is(sampleToken(logits, { temperature: 0 }, key, 0), 1);
  t.is(sampleToken(Float32Array.of(3, 3, 1), { temperature: 0 }, key, 0), 0);
});

test('tokens are drawn as often as the softmax says', (t) => {
  const draws = 20_000;
  const counts = [0, 0, 0, 0];
  for (let i = 0; i < draws; i++) counts[sampleToken(logits, { temperature: 1 }, key, i)]!++;
  const total = logits.reduce((sum, logit) => sum + Math.exp(logit), 0);
  for (const [token, count] of counts.entries()) {
    t.true(Math.abs(count / draws - Math.exp(logits[token]!) / total) < 0.015);
  }
});

test('topK draws among the most likely only, and a draw depends on its number alone', (t) => {
  const draws = Array.from({ length: 500 }, (_, i) =>
    sampleToken(logits, { temperature: 2, topK: 2 }, key, i),
  );
  t.deepEqual([...new Set(draws)].sort(), [1, 2]);
  t.is(sampleToken(logits, { temperature: 2, topK: 2 }, key, 123), draws[123]!);
});
