/** Files that grow, are cut and grow again while they are followed. */

import { appendFileSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import { LinesFollower, lastLines, sampleLines } from '../../../packages/observe/src/watch/linesFollower.ts';
import { temporaryDirectory } from '../../support/temporaryDirectory.ts';

interface Line {
  readonly step: number;
  readonly value: number;
}

function parse(text: string): Line | undefined {
  try {
    return JSON.parse(text) as Line;
  } catch {
    return undefined;
  }
}

function follow(path: string) {
  const records: Line[] = [];
  let taken = 0;
  const follower = new LinesFollower<Line>(path, {
    parse,
    take: (record) => {
      records.push(record);
      taken++;
    },
    cut: (count) => {
      records.length = count;
    },
  });
  return { follower, records, taken: () => taken };
}

const wholeLines = (path: string) =>
  readFileSync(path, 'utf8')
    .split('\n')
    .slice(0, -1)
    .flatMap((line) => parse(line) ?? []);

test('whatever is appended, torn, cut and written again, the records are those of the file', async (t) => {
  const path = join(temporaryDirectory(t), 'lines.jsonl');
  const act = fc.oneof(
    fc.record({ kind: fc.constant('append' as const), count: fc.integer({ min: 1, max: 20 }) }),
    fc.record({ kind: fc.constant('tear' as const), count: fc.integer({ min: 1, max: 20 }) }),
    fc.record({ kind: fc.constant('cut' as const), count: fc.integer({ min: 0, max: 30 }) }),
    fc.record({ kind: fc.constant('read' as const), count: fc.constant(0) }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(act, { maxLength: 25 }), async (acts) => {
      writeFileSync(path, '');
      const { follower, records } = follow(path);
      let value = 0;
      let torn = '';
      for (const { kind, count } of acts) {
        const steps = wholeLines(path).length;
        if (kind === 'append') {
          const lines = Array.from({ length: count }, (_, i) => `{"step":${steps + i},"value":${value++}}\n`);
          appendFileSync(path, torn.slice(1) + lines.join(''));
          torn = '';
        } else if (kind === 'tear' && torn === '') {
          torn = `{"step":${steps},"value":${value++}}\n`;
          appendFileSync(path, torn.slice(0, 1));
        } else if (kind === 'cut') {
          const kept = readFileSync(path, 'utf8').split('\n').slice(0, Math.min(count, steps));
          truncateSync(
            path,
            kept.reduce((sum, line) => sum + line.length + 1, 0),
          );
          torn = '';
        } else await follower.read();
      }
      await follower.read();
      t.deepEqual(records, wholeLines(path));
    }),
    { numRuns: 60 },
  );
});

test('what was read is not read again; of a file that was cut, only what follows the cut is', async (t) => {
  const path = join(temporaryDirectory(t), 'lines.jsonl');
  const line = (step: number, value = 0) => `${JSON.stringify({ step, value })}\n`;
  writeFileSync(path, Array.from({ length: 1000 }, (_, i) => line(i)).join(''));
  const { follower, records, taken } = follow(path);
  await follower.read();
  appendFileSync(path, 'rubbish\n');
  t.false(await follower.read());
  t.is(follower.damagedLines, 1);
  truncateSync(path, Array.from({ length: 900 }, (_, i) => line(i)).join('').length);
  appendFileSync(path, [900, 901, 902].map((step) => line(step, 1)).join(''));
  t.true(await follower.read());
  t.is(taken(), 1003);
  t.deepEqual(records.slice(898), [
    { step: 898, value: 0 },
    { step: 899, value: 0 },
    { step: 900, value: 1 },
    { step: 901, value: 1 },
    { step: 902, value: 1 },
  ]);
  rmSync(path);
  t.true(await follower.read());
  t.deepEqual(records, []);
});

test('samples are whole lines in order, from the first to the last; the end is told by its last lines', async (t) => {
  const path = join(temporaryDirectory(t), 'lines.jsonl');
  writeFileSync(
    path,
    Array.from(
      { length: 20_000 },
      (_, step) => `${JSON.stringify({ step, pad: 'x'.repeat(step % 90) })}\n`,
    ).join(''),
  );
  const steps = (await sampleLines(path, 50)).map((text) => parse(text)!.step);
  t.deepEqual(
    steps,
    steps.toSorted((a, b) => a - b),
  );
  t.true(steps.length > 45);
  t.is(steps[0], 0);
  t.true(steps.at(-1)! > 19_900);
  const last = await lastLines(path, 1000);
  t.is(parse(last.at(-1)!)!.step, 19_999);
  t.true(last.every((text) => parse(text) !== undefined));
  t.deepEqual(await sampleLines(join(path, '..', 'none'), 5), []);
});
