import test from 'ava';
import { Bell } from '../../../packages/observe/src/watch/bell.ts';

test('a ring wakes all that wait; nothing is left of those that were woken, or have waited long enough', async (t) => {
  const bell = new Bell();
  await Promise.all([bell.wait(1), bell.wait(2)]);
  t.is(bell.waiting, 0);
  const woken = Promise.all([bell.wait(1e6), bell.wait(1e6)]);
  t.is(bell.waiting, 2);
  bell.ring();
  await woken;
  t.is(bell.waiting, 0);
});
