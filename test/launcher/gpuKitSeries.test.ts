/** Cases of the GPU kit in processes of their own: none that fails, or never ends, costs another. */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { ceilingsOf } from '../../launcher/src/gpuKit/ceilings.ts';
import { type CaseEnd, inSeries } from '../../launcher/src/gpuKit/series.ts';
import type { KitContext } from '../../launcher/src/gpuKit/step.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';

/** Stands for a card's process: what a case is called says what comes of it. */
const PROGRAM = `
const { appendFileSync } = require('fs');
const [log, names, left] = process.argv.slice(2);
const say = (line) => process.stdout.write(JSON.stringify(line) + '\\n');
appendFileSync(log, 'begun ');
if (names === 'unfit') { say({ unfit: 'no card' }); process.exit(1); }
say({ names: names.split(','), facts: { card: 'none' } });
console.log('something else');
for (const name of left ? JSON.parse(left) : names.split(',')) {
  say({ begins: name });
  if (name.startsWith('fails')) { say({ name, failure: 'wrong' }); process.exit(1); }
  if (name.startsWith('dies')) process.kill(process.pid, 'SIGSEGV');
  if (name.startsWith('hangs')) while (true);
  say({ name, result: name.length });
}
`;

async function run(
  t: ExecutionContext,
  names: string,
  { endsAtMs = Number.POSITIVE_INFINITY, wanted }: { endsAtMs?: number; wanted?: readonly string[] } = {},
) {
  const folder = temporaryDirectory(t);
  const [program, log] = [join(folder, 'program.cjs'), join(folder, 'log')];
  writeFileSync(program, PROGRAM);
  writeFileSync(log, '');
  const facts: unknown[] = [];
  const ends: CaseEnd<number>[] = [];
  const series = inSeries<unknown, number>({
    words: [program, log, names],
    env: process.env,
    caseMs: 5000,
    endsAtMs,
    ...(wanted && { names: wanted }),
    onFacts: (told) => facts.push(told),
  });
  for await (const end of series) ends.push(end);
  return { ends, facts };
}

test('after a case that fails, dies or never ends, the rest is done in a new process', async (t) => {
  const { ends, facts } = await run(t, 'a,fails,bb,dies,hangs,ccc');
  t.deepEqual(ends, [
    { name: 'a', result: 1 },
    { name: 'fails', failure: 'wrong' },
    { name: 'bb', result: 2 },
    { name: 'dies', failure: 'its process ended by SIGSEGV' },
    { name: 'hangs', failure: 'it did not end in 5 s' },
    { name: 'ccc', result: 3 },
  ]);
  t.deepEqual(
    facts,
    Array.from({ length: 4 }, () => ({ card: 'none' })),
  );
});

test('where too many fail, the rest is left out, and named', async (t) => {
  const names = Array.from({ length: 14 }, (_, i) => `fails${i}`);
  const { ends, facts } = await run(t, names.join(','));
  t.is(facts.length, 12);
  t.deepEqual(
    ends.slice(11).map(({ failure }) => failure),
    ['wrong', 'left out: too many others failed', 'left out: too many others failed'],
  );
  t.deepEqual(
    ends.map(({ name }) => name),
    names,
  );
});

test('a series ends in time, whatever is under way', async (t) => {
  const { ends } = await run(t, 'a,hangs,b', { endsAtMs: performance.now() + 3000 });
  t.deepEqual(
    ends.map(({ name, failure }) => [name, failure?.replace(/\d+ s/, '… s')]),
    [
      ['a', undefined],
      ['hangs', 'it did not end in … s'],
      ['b', 'left out: there was no time left'],
    ],
  );
});

test('those cases are done that are wanted', async (t) => {
  const { ends } = await run(t, 'a,bb,dies,ccc', { wanted: ['dies', 'bb'] });
  t.deepEqual(ends, [
    { name: 'dies', failure: 'its process ended by SIGSEGV' },
    { name: 'bb', result: 2 },
  ]);
});

test('where no process can begin, it says why', async (t) => {
  await t.throwsAsync(run(t, 'unfit'), { message: 'no card' });
  // Of no cases all would be right.
  await t.throwsAsync(run(t, 'a', { endsAtMs: 0 }), { message: 'there was no time to begin' });
});

test.serial('what a card does at most is known though its own instruction fails', async (t) => {
  process.env.SLUICE_CUDA = 'emulated-hopper';
  process.env.SLUICE_CUDA_WATCH = 'off';
  process.env.SLUICE_EMULATED_FAULT = 'traps peakProductsHopper';
  const context: KitContext = {
    ...{ scale: 'tiny', isEmulated: true, folder: temporaryDirectory(t), earlier: {} },
    ...{ endsAtMs: Number.POSITIVE_INFINITY, keep() {}, log() {} },
  };
  const failures: string[] = [];
  const ceilings = await ceilingsOf(context, failures);
  t.is(ceilings?.instruction, 'mma.sync', failures.join());
  t.is(failures.length, 1);
  t.regex(
    failures[0]!,
    /by wgmma: SLUICE_E_CUDA: cu\w+ failed with CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access/,
  );
  // Whoever tried in vain does not try again.
  t.is(await ceilingsOf({ ...context, earlier: { probe: {} } }), undefined);
});
