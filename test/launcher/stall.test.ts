import test from 'ava';
import { stallAfterMs, stallLine, stallOf, type Waiting } from '../../launcher/src/coordinator/stall.ts';

const worker = (rank: number, doing: string, host = `h${rank >> 1}`): Waiting => ({
  ...{ rank, host, name: `${host}/${rank}`, pid: 100 + rank, doing, unchangedMs: 58_000, silentMs: 1000 },
});

const IN_REDUCE = 'step 12; under way: allReduce of group [0, 1, 2, 3]';

test('the worker that is in no operation is the one that the others wait for', (t) => {
  const stall = stallOf('step 12', 60, [worker(0, IN_REDUCE), worker(1, IN_REDUCE), worker(3, 'step 12')]);
  t.deepEqual(
    stall.missing.map(({ name }) => name),
    ['h1/3'],
  );
  t.is(
    stallLine(stall),
    'step 12 has been going on for 60 s. Not there yet: h1/3 (process 103; last: step 12, for 58 s). 2 others wait for them in allReduce of group [0, 1, 2, 3].',
  );
});

test('where the workers’ states are kept, the line ends with the place', (t) => {
  const stall = { ...stallOf('step 12', 60, [worker(3, 'step 12')]), states: 'logs/start-0001/stall-1' };
  t.regex(stallLine(stall), / What each worker is doing is in logs\/start-0001\/stall-1\.$/);
});

test('one that gives no sign of life is named, whatever it said last', (t) => {
  const frozen = { ...worker(1, IN_REDUCE), silentMs: 61_000 };
  const stall = stallOf('step 12', 61, [worker(0, IN_REDUCE), frozen, worker(2, 'step 12')]);
  t.deepEqual(stall.missing, [frozen]);
  t.regex(stallLine(stall), /h0\/1 \(process 101; no sign of life for 61 s; last: step 12; under way/);
});

test('where all are in operations, those are named that are in the rarest', (t) => {
  const behind = worker(2, 'step 12; under way: allToAll of group [2, 3]');
  const stall = stallOf('step 12', 60, [worker(0, IN_REDUCE), worker(1, IN_REDUCE), behind]);
  t.deepEqual(stall.missing, [behind]);
});

test('where nobody waits for anybody, all are named, the first eight by name', (t) => {
  const all = Array.from({ length: 10 }, (_, rank) => worker(rank, 'validation'));
  const line = stallLine(stallOf('validation', 120, all));
  t.regex(line, /^validation has been going on for 120 s\. Not there yet: h0\/0 .* and 2 more\.$/);
  t.notRegex(line, /wait for them/);
});

test('a call is told of after a fifth of its limit, later where it usually takes long, and always before its end', (t) => {
  t.is(stallAfterMs(300_000), 60_000);
  t.is(stallAfterMs(300_000, 10_000), 60_000);
  t.is(stallAfterMs(300_000, 50_000), 150_000);
  t.is(stallAfterMs(300_000, 250_000), 240_000);
});
