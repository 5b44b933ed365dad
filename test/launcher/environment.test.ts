import test from 'ava';
import { planThreads } from '../../launcher/src/coordinator/environment.ts';

test('without a number the cores are shared out, at least one thread each', (t) => {
  t.is(planThreads(0, 2, 8).threads, 4);
  t.is(planThreads(0, 3, 8).threads, 2);
  t.is(planThreads(0, 8, 2).threads, 1);
  t.is(planThreads(3, 2, 8).threads, 3);
});

test('threads wait passively only where they outnumber the cores', (t) => {
  t.is(planThreads(2, 2, 2).environment.OMP_WAIT_POLICY, 'passive');
  t.is(planThreads(1, 2, 2).environment.OMP_WAIT_POLICY, undefined);
  t.is(planThreads(2, 2, 2).environment.OMP_NUM_THREADS, '2');
});
