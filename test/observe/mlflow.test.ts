/** An MLflow server is told of a run from its logs. */

import { appendFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { MlflowSender } from '@sluice/observe';
import test from 'ava';
import { failureOf } from '../support/failureOf.ts';
import { type Batch, mlflow } from '../support/mlflow.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';
import { record } from './support.ts';

const lines = (from: number, to: number, loss: number) =>
  Array.from({ length: to - from + 1 }, (_, i) => `${JSON.stringify(record(from + i, { loss }))}\n`).join('');

const losses = (batches: readonly Batch[]) =>
  batches.flatMap(({ metrics = [] }) =>
    metrics.filter(({ key }) => key === 'train/loss').map(({ step, value }) => [step, value]),
  );

function senderOf(path: string, url: string) {
  const run = { path, name: 'a run', experiment: 'tests', config: { model: { layers: 2 } } };
  return new MlflowSender(run, { url, authorization: 'Bearer abc' });
}

test('all is told once, also by another process later; requests are no larger than a server takes', async (t) => {
  const path = temporaryDirectory(t);
  const { told, url } = await mlflow(t);
  writeFileSync(join(path, 'metrics.jsonl'), lines(1, 700, 4));
  const measured = { step: 500, firstTokenAttention: 0.25, gates: [], layers: [] };
  writeFileSync(join(path, 'diagnostics.jsonl'), `${JSON.stringify(measured)}\n`);
  let progress = 0;
  t.is(await senderOf(path, url).send((done, total) => (progress = done / total)), 700);
  t.is(progress, 1);
  const again = senderOf(path, url);
  t.is(await again.send(), 0);
  appendFileSync(join(path, 'metrics.jsonl'), lines(701, 703, 3));
  t.is(await again.send(), 3);
  await again.end('RUNNING');
  await again.end('FINISHED');
  t.deepEqual(told.experiments, ['tests']);
  t.is(told.runs.length, 1);
  t.like(told.runs[0]!, { experiment_id: '0', run_name: 'a run', start_time: Date.parse(record(1).time) });
  t.deepEqual(
    told.batches.flatMap(({ params = [] }) => params),
    [{ key: 'model.layers', value: '2' }],
  );
  t.deepEqual(
    losses(told.batches).map(([step]) => step),
    Array.from({ length: 703 }, (_, i) => i + 1),
  );
  t.true(told.batches.every(({ metrics = [] }) => metrics.length <= 1000));
  t.is(
    told.batches.flatMap(({ metrics = [] }) =>
      metrics.filter(({ key }) => key === 'model/first_token_attention'),
    ).length,
    1,
  );
  t.deepEqual(told.statuses, ['RUNNING', 'FINISHED']);
  t.deepEqual(told.endTimes, [undefined, Date.parse(record(703).time)]);
});

test('a long log is told in parts, the first before the rest is read', async (t) => {
  const path = temporaryDirectory(t);
  const { told, url } = await mlflow(t);
  const log = join(path, 'metrics.jsonl');
  writeFileSync(log, lines(1, 20_000, 4));
  told.onRun = () => truncateSync(log, 0);
  const sent = await senderOf(path, url).send();
  t.true(sent > 0 && sent < 20_000, `${sent} steps`);
  t.is(losses(told.batches).length, sent);
});

test('parameters that a server did not take are told by the next process, of the same run', async (t) => {
  const path = temporaryDirectory(t);
  const { told, url } = await mlflow(t);
  writeFileSync(join(path, 'metrics.jsonl'), lines(1, 3, 4));
  told.onRun = () => {
    told.isAway = true;
  };
  t.is((await failureOf(senderOf(path, url).send())).code, 'SLUICE_E_SERVER_UNREACHABLE');
  told.isAway = false;
  t.is(await senderOf(path, url).send(), 3);
  t.is(told.runs.length, 1);
  t.deepEqual(
    told.batches.flatMap(({ params = [] }) => params),
    [{ key: 'model.layers', value: '2' }],
  );
});

test('what a server did not take is told when it is back; steps that are taken again are told again', async (t) => {
  const path = temporaryDirectory(t);
  const { told, url } = await mlflow(t);
  const log = join(path, 'metrics.jsonl');
  writeFileSync(log, lines(1, 3, 4));
  const sender = senderOf(path, url);
  told.isAway = true;
  const { code, message } = await failureOf(sender.send());
  t.is(code, 'SLUICE_E_SERVER_UNREACHABLE');
  t.regex(message, /answers with 500: away/);
  told.isAway = false;
  t.is(await sender.send(), 3);
  truncateSync(log, lines(1, 1, 4).length);
  appendFileSync(log, lines(2, 4, 2));
  t.is(await sender.send(), 3);
  t.deepEqual(losses(told.batches), [
    [1, 4],
    [2, 4],
    [3, 4],
    [2, 2],
    [3, 2],
    [4, 2],
  ]);
  const nowhere = await failureOf(senderOf(path, 'http://127.0.0.1:9').send());
  t.regex(nowhere.message, /127\.0\.0\.1:9 does not answer/);
});
