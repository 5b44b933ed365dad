import { setTimeout as delay } from 'node:timers/promises';
import { inParallel } from '@sluice/core';
import test from 'ava';

test('results come in the order of the items, and no more are under way than may be', async (t) => {
  let [now, most] = [0, 0];
  const results = await inParallel([5, 1, 3, 2, 4], 2, async (ms, index) => {
    most = Math.max(most, ++now);
    await delay(ms);
    now--;
    return `${index}: ${ms}`;
  });
  t.deepEqual(results, ['0: 5', '1: 1', '2: 3', '3: 2', '4: 4']);
  t.is(most, 2);
  t.deepEqual(await inParallel([], 3, async () => 1), []);
});

test('after a failure nothing is begun, and it is thrown once nothing is under way', async (t) => {
  const [begun, ended]: [number[], number[]] = [[], []];
  const work = inParallel([0, 1, 2, 3], 2, async (item) => {
    begun.push(item);
    if (item === 0) throw new Error('refused');
    await delay(5);
    ended.push(item);
  });
  await t.throwsAsync(work, { message: 'refused' });
  t.deepEqual(begun, [0, 1]);
  t.deepEqual(ended, [1]);
});
