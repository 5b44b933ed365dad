import { appendFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { FollowedMetrics } from '../../../launcher/src/experiment/followMetrics.ts';
import { temporaryDirectory } from '../../support/temporaryDirectory.ts';

const line = (step: number, loss: number | null) =>
  `${JSON.stringify({ step, loss, more: 'é'.repeat(step) })}\n`;
const lines = (from: number, to: number, loss: number) =>
  Array.from({ length: to - from + 1 }, (_, i) => line(from + i, loss)).join('');

test('steps are followed as they come, whole lines only', (t) => {
  const path = join(temporaryDirectory(t), 'metrics.jsonl');
  const metrics = new FollowedMetrics(path);
  metrics.read();
  t.is(metrics.lastStep, 0);
  writeFileSync(path, line(1, 5) + line(2, null).slice(0, 9));
  metrics.read();
  t.deepEqual(metrics.losses, [5]);
  appendFileSync(path, line(2, null).slice(9));
  metrics.read();
  t.deepEqual([metrics.losses, metrics.lastStep], [[5, null], 2]);
});

test('of a run that went on from a checkpoint, the steps that it has taken back are forgotten', (t) => {
  const path = join(temporaryDirectory(t), 'metrics.jsonl');
  writeFileSync(path, lines(1, 8, 5));
  const shorter = new FollowedMetrics(path);
  const longer = new FollowedMetrics(path);
  for (const metrics of [shorter, longer]) metrics.read();
  writeFileSync(path, lines(1, 4, 5) + line(5, 3));
  shorter.read();
  t.deepEqual(shorter.losses, [5, 5, 5, 5, 3]);
  // Longer than it was before: where one stopped reading is the middle of another line now.
  writeFileSync(path, lines(1, 4, 5) + lines(5, 12, 3.25));
  longer.read();
  t.deepEqual(longer.losses, [5, 5, 5, 5, ...new Array<number>(8).fill(3.25)]);
  t.is(longer.lastStep, 12);
});
