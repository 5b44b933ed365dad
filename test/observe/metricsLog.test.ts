import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  firstMetrics,
  lastMetrics,
  MetricsLog,
  metricsOf,
  readMetrics,
  type StepRecord,
  stepRecord,
} from '@sluice/observe';
import test from 'ava';
import fc from 'fast-check';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';
import { collect, record } from './support.ts';

async function steps(path: string): Promise<number[]> {
  return (await collect(readMetrics(path))).map(({ step }) => step);
}

test('what is appended is read back, whatever the numbers', async (t) => {
  const directory = temporaryDirectory(t);
  let run = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(
        fc.record({ loss: fc.double(), validationLoss: fc.double({ noNaN: true }), spike: fc.boolean() }),
      ),
      async (rows) => {
        const path = join(directory, `metrics-${run++}.jsonl`);
        const records = rows.map((row, index): StepRecord => record(index + 1, row));
        const log = MetricsLog.open(path);
        for (const each of records) log.append(each);
        log.close();
        const expected = records.map((each) => ({
          ...each,
          loss: Number.isFinite(each.loss) ? each.loss : Number.NaN,
          validationLoss: Number.isFinite(each.validationLoss) ? each.validationLoss : Number.NaN,
        }));
        // JSON has no negative zero.
        t.deepEqual(await collect(readMetrics(path)), JSON.parse(JSON.stringify(expected), revive));
      },
    ),
    { numRuns: 30 },
  );
});

test('the size of an update comes back with four digits, and what is not finite as NaN', async (t) => {
  const path = join(temporaryDirectory(t), 'metrics.jsonl');
  const log = MetricsLog.open(path);
  const groups = { router: Number.NaN, head: 0.000123456 };
  log.append(record(2, { lastUpdate: { overall: 1 / 3, groups } }));
  log.close();
  const [line] = await collect(readMetrics(path));
  t.deepEqual(line!.lastUpdate, { overall: 0.3333, groups: { router: Number.NaN, head: 0.0001235 } });
});

function revive(key: string, value: unknown): unknown {
  return value === null && /loss/i.test(key) ? Number.NaN : value;
}

test('a torn last line is left out by the reader and cut off when the log is opened again', async (t) => {
  const path = join(temporaryDirectory(t), 'metrics.jsonl');
  const log = MetricsLog.open(path);
  log.append(record(1));
  log.append(record(2));
  log.close();
  const whole = readFileSync(path, 'utf8');
  const third = JSON.stringify(record(3));
  for (const length of [1, 20, third.length - 1]) {
    writeFileSync(path, whole + third.slice(0, length));
    t.deepEqual(await steps(path), [1, 2]);
    const reopened = MetricsLog.open(path);
    t.is(reopened.lastStep, 2);
    t.is(readFileSync(path, 'utf8'), whole);
    reopened.append(record(3));
    reopened.close();
    t.deepEqual(await steps(path), [1, 2, 3]);
  }
});

test('a log that holds nothing but a torn line is empty', async (t) => {
  const path = join(temporaryDirectory(t), 'metrics.jsonl');
  writeFileSync(path, '{"step":1,"lo');
  t.deepEqual(await steps(path), []);
  const log = MetricsLog.open(path);
  t.is(log.lastStep, 0);
  log.close();
  t.is(readFileSync(path, 'utf8'), '');
});

test('a line of a version that did not tell waiting from moving is read, without the former', async (t) => {
  const path = join(temporaryDirectory(t), 'metrics.jsonl');
  const seconds = { total: 1.24, compute: 1, communicate: 0.2, optimize: 0.04 };
  writeFileSync(path, `${JSON.stringify({ ...record(1), seconds })}\n`);
  const [read] = await collect(readMetrics(path));
  t.deepEqual(read!.seconds, { ...seconds, waiting: Number.NaN });
});

test('a log that cannot be read is a coded error', async (t) => {
  // No file: even root cannot read it.
  const path = temporaryDirectory(t);
  const error = { code: 'SLUICE_E_FILE_MISSING', message: `${path} cannot be read (EISDIR).` };
  await t.throwsAsync(steps(path), error);
});

test('a run without a log has no records', async (t) => {
  t.deepEqual(await collect(readMetrics(join(temporaryDirectory(t), 'metrics.jsonl'))), []);
});

test('truncation keeps exactly the lines up to the step, in files longer than a buffer', async (t) => {
  const path = join(temporaryDirectory(t), 'metrics.jsonl');
  const log = MetricsLog.open(path);
  const expertLoad = [Array.from({ length: 64 }, (_, expert) => expert / 2016)];
  for (let step = 1; step <= 300; step++) log.append(record(step, { expertLoad }));
  const lines = readFileSync(path, 'utf8').split('\n');
  t.true(lines.join('\n').length > 3 * 65536);
  for (const step of [400, 300, 299, 150, 1]) {
    log.truncateAfter(step);
    const last = Math.min(300, step);
    t.is(log.lastStep, last);
    t.is(readFileSync(path, 'utf8'), `${lines.slice(0, last).join('\n')}\n`);
  }
  log.append(record(2));
  log.truncateAfter(0);
  t.is(readFileSync(path, 'utf8'), '');
  log.append(record(1));
  log.close();
  t.deepEqual(await steps(path), [1]);
});

test('a step that is not later than the last one is refused', (t) => {
  const log = MetricsLog.open(join(temporaryDirectory(t), 'metrics.jsonl'));
  t.teardown(() => log.close());
  log.append(record(5));
  t.throws(() => log.append(record(5)), { message: /step 5 is logged after step 5/ });
});

test('a damaged line in the middle is an error that names it, or is handed to the caller', async (t) => {
  const path = join(temporaryDirectory(t), 'metrics.jsonl');
  writeFileSync(path, `${JSON.stringify(record(1))}\nrubbish\n${JSON.stringify(record(3))}\n`);
  const error = await t.throwsAsync(collect(readMetrics(path)), { code: 'SLUICE_E_METRICS_DAMAGED' });
  t.regex(error.message, /Line 2 of .*"rubbish"/);
  const damaged: [number, string][] = [];
  const records = await collect(readMetrics(path, { onDamaged: (line, text) => damaged.push([line, text]) }));
  t.deepEqual(
    records.map(({ step }) => step),
    [1, 3],
  );
  t.deepEqual(damaged, [[2, 'rubbish']]);
});

test('steps are found where they are, whatever is damaged before them', async (t) => {
  const path = join(temporaryDirectory(t), 'metrics.jsonl');
  const lines = [1, 2, 4, 5].map((step) => JSON.stringify(record(step)));
  writeFileSync(path, [lines[0], 'rubbish', ...lines.slice(1), '{"step":6'].join('\n'));
  t.is(firstMetrics(path)?.step, 1);
  t.is(lastMetrics(path)?.step, 5);
  t.deepEqual(
    [1, 3, 4, 6].map((step) => metricsOf(path, step)?.step),
    [1, undefined, 4, undefined],
  );
  const later = async (after: number) =>
    (await collect(readMetrics(path, { after }))).map(({ step }) => step);
  t.deepEqual([await later(2), await later(3), await later(5)], [[4, 5], [4, 5], []]);
  const error = await t.throwsAsync(later(0), { code: 'SLUICE_E_METRICS_DAMAGED' });
  t.regex(error.message, /^Line 2 of /);
  appendFileSync(path, `\n${JSON.stringify(record(7))}\n`);
  await t.throwsAsync(later(4), { message: /^Line 2 behind step 4 of .*is no record of a step/ });
});

test('last lines that a power cut has left with holes are cut off when the log is opened again', (t) => {
  const path = join(temporaryDirectory(t), 'metrics.jsonl');
  const whole = `${JSON.stringify(record(1))}\n`;
  for (const torn of ['{"step":2,\0\0\0}\n', '\0\0\0\n{"step":3,\0\n', '\0\n{"step":4', '\0\0']) {
    writeFileSync(path, whole + torn);
    const log = MetricsLog.open(path);
    t.is(log.lastStep, 1);
    log.close();
    t.is(readFileSync(path, 'utf8'), whole);
  }
  writeFileSync(path, '\0\n');
  const empty = MetricsLog.open(path);
  t.is(empty.lastStep, 0);
  empty.close();
  t.is(readFileSync(path, 'utf8'), '');
});

test('a log whose last line is no record, and has no hole, is not appended to, and nothing of it is cut off', (t) => {
  const path = join(temporaryDirectory(t), 'metrics.jsonl');
  for (const text of [`${JSON.stringify(record(1))}\n[]\n`, '[]\n{"step":2,\0}\n']) {
    writeFileSync(path, text);
    t.throws(() => MetricsLog.open(path), { code: 'SLUICE_E_METRICS_DAMAGED' });
    t.is(readFileSync(path, 'utf8'), text);
  }
});

test('a log in a place that cannot be written is a coded error', (t) => {
  const file = join(temporaryDirectory(t), 'file');
  writeFileSync(file, '');
  t.throws(() => MetricsLog.open(join(file, 'metrics.jsonl')), { code: 'SLUICE_E_FILE_UNWRITABLE' });
  t.throws(() => MetricsLog.open(`${file}s/metrics.jsonl`), { code: 'SLUICE_E_FILE_MISSING' });
});

test('the log can be read while it grows', async (t) => {
  const path = join(temporaryDirectory(t), 'metrics.jsonl');
  const log = MetricsLog.open(path);
  t.teardown(() => log.close());
  log.append(record(1));
  t.deepEqual(await steps(path), [1]);
  log.append(record(2));
  appendFileSync(path, '{"st');
  t.deepEqual(await steps(path), [1, 2]);
});

test('a record holds optional fields only where there is something to say', (t) => {
  const measured = record(7);
  const plain = stepRecord(measured, { learningRate: 1e-3, tokensPerSecond: 10, spike: false });
  t.false('spike' in plain);
  t.false('validationLoss' in plain);
  t.false('expertLoad' in plain);
  const full = stepRecord(measured, {
    learningRate: 1e-3,
    tokensPerSecond: 10,
    spike: true,
    validationLoss: 4,
  });
  t.like(full, { step: 7, spike: true, validationLoss: 4, learningRate: 1e-3, tokensPerSecond: 10 });
});
