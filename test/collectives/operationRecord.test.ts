import { consecutiveRanges } from '@sluice/collectives';
import test from 'ava';
import { bytesSent, OperationRecord } from '../../packages/collectives/src/operationRecord.ts';

test('bytes that a rank sends are counted for each operation', (t) => {
  const buffer = new Float32Array(12);
  const ranges = consecutiveRanges([6, 4, 2]);
  t.is(bytesSent('allReduce', [buffer], 1, 3), 64);
  t.is(bytesSent('reduceScatter', [buffer, ranges], 1, 3), 32);
  t.is(bytesSent('allGather', [buffer, ranges], 1, 3), 32);
  t.is(bytesSent('allToAll', [buffer, ranges, buffer, ranges], 2, 3), 40);
  t.is(bytesSent('broadcast', [buffer, 2], 2, 3), 96);
  t.is(bytesSent('broadcast', [buffer, 2], 0, 3), 0);
  t.is(bytesSent('barrier', [], 0, 3), 0);
});

test('a record is bounded, and says what it has no room for', (t) => {
  const record = new OperationRecord();
  for (let i = 0; i < 50_003; i++) record.launch('barrier', [0, 1], 0, i);
  t.is(record.operations.length, 50_000);
  t.is(record.dropped, 3);
});
