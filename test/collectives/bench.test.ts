import { benchReport } from '@sluice/collectives';
import test from 'ava';

test('what is told of operations is of their means over the ranks, and its parts are those of the median one', (t) => {
  const results = [
    { total: [9, 9, 2, 6, 4], waiting: [9, 9, 0, 2, 3], cpu: [9, 9, 1, 1, 1] },
    { total: [9, 9, 2, 2, 4], waiting: [9, 9, 2, 0, 0], cpu: [9, 9, 3, 3, 3] },
    { total: [9, 9, 2, 7, 4], waiting: [9, 9, 1, 1, 0], cpu: [9, 9, 2, 2, 2] },
  ];
  const request = { operation: 'allReduce', mib: 3, iterations: 5, transport: 'ipc' } as const;
  t.deepEqual(benchReport(results, request), {
    ...{ ...request, world: 3, medianMs: 4, minMs: 2, waitingMs: 1, movingMs: 3, cpuMs: 2 },
    busGBps: (4 * 2 ** 20) / 4e6,
  });
});
