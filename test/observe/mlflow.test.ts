/** An MLflow server is told of a run from its logs. */

import { appendFileSync, truncateSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { MlflowSender } from '@sluice/observe';
import test, { type ExecutionContext } from 'ava';
import { failureOf } from '../support/failureOf.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';
import { record } from './support.ts';

interface Batch {
  readonly metrics?: { key: string; step: number; value: number }[];
  readonly params?: { key: string; value: string }[];
}

/** As much of a server as is talked to; `isAway` lets it fail. */
async function mlflow(t: ExecutionContext) {
  const told = {
    isAway: false,
    onRun: () => {},
    experiments: [] as string[],
    runs: [] as object[],
    batches: [] as Batch[],
    statuses: [] as string[],
  };
  const answers: Record<
    string,
    (body: Record<string, string>, query: URLSearchParams) => object | undefined
  > = {
    'experiments/get-by-name': (_body, query) => {
      const at = told.experiments.indexOf(query.get('experiment_name')!);
      return at < 0 ? undefined : { experiment: { experiment_id: String(at) } };
    },
    'experiments/create': ({ name }) => ({ experiment_id: String(told.experiments.push(name!) - 1) }),
    'runs/create': (body) => {
      told.onRun();
      return { run: { info: { run_id: `run-${told.runs.push(body)}` } } };
    },
    'runs/log-batch': (body) => {
      told.batches.push(body as Batch);
      return {};
    },
    'runs/update': ({ status }) => {
      told.statuses.push(status!);
      return {};
    },
  };
  const server = createServer((request, response) => {
    let text = '';
    request.on('data', (chunk) => {
      text += chunk;
    });
    request.on('end', () => {
      const url = new URL(request.url!, 'http://x');
      const answer = answers[url.pathname.replace('/api/2.0/mlflow/', '')];
      if (told.isAway || !answer || request.headers.authorization !== 'Bearer abc') {
        response.writeHead(500).end('away');
        return;
      }
      const body = answer(text === '' ? {} : JSON.parse(text), url.searchParams);
      response
        .writeHead(body ? 200 : 404, { 'Content-Type': 'application/json' })
        .end(JSON.stringify(body ?? {}));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  return { told, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/` };
}

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
  t.is(await senderOf(path, url).send(), 700);
  const again = senderOf(path, url);
  t.is(await again.send(), 0);
  appendFileSync(join(path, 'metrics.jsonl'), lines(701, 703, 3));
  t.is(await again.send(), 3);
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
  t.deepEqual(told.statuses, ['FINISHED']);
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
