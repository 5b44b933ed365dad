import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import { truncateRecordsAfter } from '../../packages/observe/src/recordLines.ts';
import { firstAfterStep, lastRecordBefore } from '../../packages/observe/src/stepLines.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';

interface Line {
  readonly step: number;
  readonly text: string;
}

/** Lines such as `12 xxxx`; all others are no records. */
function parse(line: string): Line | undefined {
  const step = /^(\d+) x*$/.exec(line)?.[1];
  return step === undefined ? undefined : { step: Number(step), text: line };
}

/** Steps that ascend, some of them several times, in lines of all lengths; damaged lines, and a torn end. */
const log = fc
  .record({
    lines: fc.array(
      fc.record({
        stride: fc.nat({ max: 3 }),
        length: fc.oneof(fc.nat({ max: 9 }), fc.constant(70_000)),
        isDamaged: fc.boolean(),
      }),
      { maxLength: 12 },
    ),
    torn: fc.constantFrom('', '7', '40 xx', '\0\0'),
  })
  .map(({ lines, torn }) => {
    let step = 0;
    const texts = lines.map(({ stride, length, isDamaged }) => {
      step += stride;
      return `${isDamaged ? '?' : step} ${'x'.repeat(length)}\n`;
    });
    return { texts, torn };
  });

test('halving finds the first record behind a step, and the last of all, as reading every line does', (t) => {
  const path = join(temporaryDirectory(t), 'log');
  fc.assert(
    fc.property(log, fc.nat({ max: 40 }), ({ texts, torn }, step) => {
      writeFileSync(path, texts.join('') + torn);
      let end = 0;
      const records = texts.flatMap((text) => {
        const start = end;
        end += text.length;
        const record = parse(text.slice(0, -1));
        return record ? [{ record, start, end }] : [];
      });
      const file = openSync(path, 'r');
      try {
        const later = records.find(({ record }) => record.step > step);
        t.deepEqual(firstAfterStep(file, step, parse), later);
        t.deepEqual(lastRecordBefore(file, end + torn.length, parse), records.at(-1));
      } finally {
        closeSync(file);
      }
    }),
    { numRuns: 100 },
  );
});

test('the last steps of a long log are taken back without reading the others', (t) => {
  const path = join(temporaryDirectory(t), 'log');
  const lines = Array.from({ length: 20_000 }, (_, i) => `${i + 1} xxxx\n`);
  writeFileSync(path, lines.join(''));
  let parsed = 0;
  const counting = (line: string) => {
    parsed++;
    return parse(line);
  };
  truncateRecordsAfter(path, 19_990, counting);
  t.is(readFileSync(path, 'utf8'), lines.slice(0, 19_990).join(''));
  t.true(parsed < 100, `${parsed} lines were read`);
});
