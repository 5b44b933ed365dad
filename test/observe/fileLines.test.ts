import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { appendSamples, readSamples, SAMPLES_FILE, type SampleRecord, supersedeAfter } from '@sluice/observe';
import test from 'ava';
import fc from 'fast-check';
import { fileLines } from '../../packages/observe/src/fileLines.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';

/** Whatever ends a line for somebody, beside what ends none for anybody. */
const unit = fc.constantFrom('a', 'é', '😀', '"', '\\', '\r', '\u0085', '\u2028', '\u2029', '\v', '\f');
const text = fc.string({ unit, maxLength: 12 });

async function all<Of>(values: AsyncIterable<Of>): Promise<Of[]> {
  const found: Of[] = [];
  for await (const value of values) found.push(value);
  return found;
}

test('a line ends with a newline and with nothing else, wherever its bytes are cut', async (t) => {
  const cut = fc.nat({ max: 20 });
  await fc.assert(
    fc.asyncProperty(fc.array(text), fc.boolean(), fc.array(cut), async (lines, isTorn, cuts) => {
      const torn = isTorn ? ['torn'] : [];
      const bytes = Buffer.from([...lines.map((line) => `${line}\n`), ...torn].join(''));
      async function* chunks() {
        let rest = bytes;
        for (const length of cuts) {
          yield rest.subarray(0, length);
          rest = rest.subarray(length);
        }
        yield rest;
      }
      const found = await all(fileLines(chunks()));
      t.deepEqual(
        found.map((line) => line.text),
        [...lines, ...torn],
      );
      t.true(found.every(({ isWhole }, i) => isWhole === i < lines.length));
    }),
  );
});

test('texts of a run are kept whole, whatever is in them, where later ones are taken back', async (t) => {
  await fc.assert(
    fc.asyncProperty(fc.array(text, { minLength: 2, maxLength: 4 }), async (texts) => {
      const run = temporaryDirectory(t);
      const path = join(run, SAMPLES_FILE);
      const samples = texts.map((one, i): SampleRecord => ({ step: i + 1, prompt: one, text: one }));
      appendSamples(path, samples);
      t.deepEqual(await all(readSamples(path)), samples);
      supersedeAfter(run, samples.length - 1);
      t.deepEqual(await all(readSamples(path)), samples.slice(0, -1));
      t.is(
        readFileSync(join(run, 'superseded/samples-001.jsonl'), 'utf8'),
        `${JSON.stringify(samples.at(-1))}\n`,
      );
    }),
    { numRuns: 20 },
  );
});
