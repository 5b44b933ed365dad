import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ObserveConfig } from '@sluice/train';
import test from 'ava';
import { collectorOf } from '../../launcher/src/coordinator/collector.ts';
import { timelinesAfterStep } from '../../launcher/src/coordinator/timelines.ts';
import type { StepReport } from '../../launcher/src/coordinator/trainingRun.ts';
import { runDirectory } from '../../launcher/src/run/runDirectory.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';
import { smallConfig } from './support/config.ts';

const WORKER = { start: 10, end: 20, spans: [], operations: [], waits: [], dropped: 0 };

const report = (timelines: StepReport['timelines']) => ({ result: { step: 20 }, timelines }) as StepReport;

test('a timeline is a file for Perfetto and a picture, where it was wanted', async (t) => {
  const run = runDirectory(temporaryDirectory(t));
  writeFileSync(run.config, '');
  const told: string[] = [];
  const sent: number[] = [];
  const after = timelinesAfterStep({
    ...{ run, hostOf: (rank) => `h${rank}` },
    ...{ tell: (text) => told.push(text), warn: t.fail, send: ({ step }) => sent.push(step) },
  });
  await after({} as never, report(undefined));
  t.deepEqual([told, sent], [[], []]);
  await after({} as never, report([WORKER, WORKER]));
  t.deepEqual(readdirSync(run.timelines), ['step-00000020.json', 'step-00000020.svg']);
  const { traceEvents } = JSON.parse(readFileSync(join(run.timelines, 'step-00000020.json'), 'utf8'));
  const names = traceEvents.filter(({ name }: { name: string }) => name === 'process_name');
  t.deepEqual(
    names.map(({ args }: { args: { name: string } }) => args.name),
    ['rank 0 on h0', 'rank 1 on h1'],
  );
  t.deepEqual(sent, [20]);
  t.regex(told[0]!, /timeline of step 20: .*step-00000020\.json/);
});

test('a timeline that cannot be written is told, and training goes on', async (t) => {
  const file = join(temporaryDirectory(t), 'file');
  writeFileSync(file, '');
  // Nothing takes the place of a run's directory that has vanished.
  const empty = temporaryDirectory(t);
  for (const path of [file, empty, `${file}s`]) {
    const warnings: string[] = [];
    const after = timelinesAfterStep({
      ...{ run: runDirectory(path), hostOf: () => 'h' },
      ...{ tell: t.fail, warn: (text) => warnings.push(text), send: () => {} },
    });
    await after({} as never, report([WORKER]));
    t.regex(warnings[0]!, /There is no timeline of step 20: /);
  }
  t.false(existsSync(`${file}s`));
  t.deepEqual(readdirSync(empty), []);
});

test('a collector is named by the configuration or by the standard variables, its secrets by files or variables', (t) => {
  const file = join(temporaryDirectory(t), 'headers');
  writeFileSync(file, 'api-key: a:b \n\nx-team : c\n');
  const config = (otlp: object | undefined, timelineEverySteps = 5) => ({
    ...smallConfig(),
    name: 'a run',
    diagnostics: { everySteps: 0, timelineEverySteps },
    observe: ObserveConfig.parse({ otlp }),
  });
  const environment = {
    ...{ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://one:4318/', OTEL_EXPORTER_OTLP_HEADERS: 'x-team=d%20e, y=1' },
    ...{ OTEL_RESOURCE_ATTRIBUTES: 'team=t', OTEL_SERVICE_NAME: 'ours', OTEL_EXPORTER_OTLP_TIMEOUT: '300' },
  };
  const attributes = { 'sluice.run': 'a run' };
  t.deepEqual(collectorOf('runs/x', config({ url: 'https://two/otlp', headersFile: file }), {}), {
    ...{ url: 'https://two/otlp/v1/traces', limitMs: 10_000, attributes },
    headers: { 'api-key': 'a:b', 'x-team': 'c' },
  });
  t.deepEqual(collectorOf('runs/x', config(undefined), environment), {
    ...{ url: 'http://one:4318/v1/traces', limitMs: 300, headers: { 'x-team': 'd e', y: '1' } },
    attributes: { ...attributes, team: 't', 'service.name': 'ours' },
  });
  t.is(
    collectorOf('x', config({}), { ...environment, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'http://three/' })!
      .url,
    'http://three/',
  );
  t.is(collectorOf('x', config({}), {}), undefined);
  t.is(collectorOf('x', config(undefined, 0), environment), undefined);
  t.is(collectorOf('x', config(undefined), { ...environment, OTEL_SDK_DISABLED: 'true' }), undefined);
  t.throws(() => collectorOf('x', config({}), { OTEL_EXPORTER_OTLP_ENDPOINT: 'collector' }), {
    code: 'SLUICE_E_USAGE',
  });
  t.throws(() => collectorOf('x', config({ url: 'http://a', headersFile: `${file}.none` }), {}), {
    code: 'SLUICE_E_FILE_MISSING',
  });
});
