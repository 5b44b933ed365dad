import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { timelinesAfterStep } from '../../launcher/src/coordinator/timelines.ts';
import type { StepReport } from '../../launcher/src/coordinator/trainRun.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';

const WORKER = { start: 10, end: 20, spans: [], operations: [], waits: [], dropped: 0 };

const report = (timelines: StepReport['timelines']) => ({ result: { step: 20 }, timelines }) as StepReport;

test('a timeline is a file for Perfetto and a picture, where it was wanted', async (t) => {
  const directory = join(temporaryDirectory(t), 'timelines');
  const told: string[] = [];
  const after = timelinesAfterStep({
    ...{ directory, hostOf: (rank) => `h${rank}` },
    ...{ tell: (text) => told.push(text), warn: t.fail },
  });
  await after({} as never, report(undefined));
  t.deepEqual(told, []);
  await after({} as never, report([WORKER, WORKER]));
  t.deepEqual(readdirSync(directory), ['step-00000020.json', 'step-00000020.svg']);
  const { traceEvents } = JSON.parse(readFileSync(join(directory, 'step-00000020.json'), 'utf8'));
  const names = traceEvents.filter(({ name }: { name: string }) => name === 'process_name');
  t.deepEqual(
    names.map(({ args }: { args: { name: string } }) => args.name),
    ['rank 0 on h0', 'rank 1 on h1'],
  );
  t.regex(told[0]!, /timeline of step 20: .*step-00000020\.json/);
});

test('a timeline that cannot be written is told, and training goes on', async (t) => {
  const file = join(temporaryDirectory(t), 'file');
  writeFileSync(file, '');
  const warnings: string[] = [];
  const after = timelinesAfterStep({
    ...{ directory: join(file, 'timelines'), hostOf: () => 'h' },
    ...{ tell: t.fail, warn: (text) => warnings.push(text) },
  });
  await after({} as never, report([WORKER]));
  t.regex(warnings[0]!, /There is no timeline of step 20: /);
});
