import { appendFileSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  METRICS_FILE,
  MetricsLog,
  supersedeAfter,
  supersededRecords,
  supersededSteps,
} from '@sluice/observe';
import test, { type ExecutionContext } from 'ava';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';
import { record } from './support.ts';

/** Takes steps, as a run does. */
function take(run: string, first: number, last: number): void {
  const log = MetricsLog.open(join(run, METRICS_FILE));
  for (let step = first; step <= last; step++) log.append(record(step));
  log.close();
}

function setUp(t: ExecutionContext) {
  const run = temporaryDirectory(t);
  const metrics = join(run, METRICS_FILE);
  return { run, metrics, lines: () => readFileSync(metrics, 'utf8').split('\n').slice(0, -1) };
}

test('steps after the one that a run goes on from move to numbered files, byte by byte', (t) => {
  const { run, lines } = setUp(t);
  take(run, 1, 10);
  const before = lines();
  supersedeAfter(run, 6);
  t.deepEqual(lines(), before.slice(0, 6));
  take(run, 7, 8);
  supersedeAfter(run, 0);
  t.deepEqual(lines(), []);
  t.deepEqual(readdirSync(join(run, 'superseded')).sort(), ['metrics-001.jsonl', 'metrics-002.jsonl']);
  t.is(readFileSync(join(run, 'superseded', 'metrics-001.jsonl'), 'utf8'), `${before.slice(6).join('\n')}\n`);
  t.deepEqual(supersededSteps(run), [
    { file: join('superseded', 'metrics-001.jsonl'), first: 7, last: 10 },
    { file: join('superseded', 'metrics-002.jsonl'), first: 1, last: 8 },
  ]);
  t.deepEqual(
    supersededRecords(run, 7).map(({ file }) => file),
    [join('superseded', 'metrics-001.jsonl'), join('superseded', 'metrics-002.jsonl')],
  );
  t.deepEqual(supersededRecords(run, 11), []);
});

test('a run that goes on from its last step, or has taken none, leaves no such file', (t) => {
  const { run } = setUp(t);
  supersedeAfter(run, 0);
  take(run, 1, 3);
  supersedeAfter(run, 3);
  supersedeAfter(run, 5);
  t.deepEqual(readdirSync(run), [METRICS_FILE]);
  t.deepEqual(supersededSteps(run), []);
});

test('diagnostics and samples go with the metrics, under the same number', (t) => {
  const { run } = setUp(t);
  take(run, 1, 8);
  const line = (step: number) => `${JSON.stringify({ step, layers: [] })}\n`;
  const diagnostics = join(run, 'diagnostics.jsonl');
  writeFileSync(diagnostics, line(4) + line(8));
  const sample = (step: number) => `${JSON.stringify({ step, prompt: 'A', text: ' dog' })}\n`;
  const samples = join(run, 'samples.jsonl');
  writeFileSync(samples, sample(5) + sample(6));
  supersedeAfter(run, 5);
  t.is(readFileSync(diagnostics, 'utf8'), line(4));
  t.is(readFileSync(samples, 'utf8'), sample(5));
  t.is(readFileSync(join(run, 'superseded', 'samples-001.jsonl'), 'utf8'), sample(6));
  t.is(readFileSync(join(run, 'superseded', 'diagnostics-001.jsonl'), 'utf8'), line(8));
  appendFileSync(diagnostics, '{"torn');
  supersedeAfter(run, 5);
  t.is(readFileSync(diagnostics, 'utf8'), line(4));
  t.is(readdirSync(join(run, 'superseded')).length, 3);
});
