/** The server of the live page: who may look, what can be reached, and what is sent. */

import { appendFileSync, mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { join } from 'node:path';
import vm from 'node:vm';
import type { Catalog, WatchedRun } from '@sluice/observe';
import { RunList, startWatchServer } from '@sluice/observe';
import test, { type ExecutionContext } from 'ava';
import type { ChartData } from '../../../packages/observe/src/report/data.ts';
import type { Comparison } from '../../../packages/observe/src/watch/compare.ts';
import { runParts, SentParts } from '../../../packages/observe/src/watch/parts.ts';
import { RunFollower } from '../../../packages/observe/src/watch/runFollower.ts';
import { temporaryDirectory } from '../../support/temporaryDirectory.ts';
import { record } from '../support.ts';

const TOKEN = 'a-token-that-nobody-guesses';

function watchedRun(path: string, id = 'run-1'): WatchedRun {
  const status = { state: 'running', text: 'running' } as const;
  return {
    ...{ id, path, name: 'a <b>run</b>' },
    brief: () => ({ status, steps: 100, validationLoss: 4.25, spikes: 1, rollbacks: 0 }),
    facts: async () => ({ title: 'a <b>run</b>', status }),
  };
}

const lines = (from: number, to: number, loss = 4) =>
  Array.from({ length: to - from + 1 }, (_, i) => `${JSON.stringify(record(from + i, { loss }))}\n`).join('');

async function serve(t: ExecutionContext, token?: string) {
  const directory = temporaryDirectory(t);
  const path = join(directory, 'run');
  mkdirSync(path);
  writeFileSync(join(path, 'metrics.jsonl'), lines(1, 20));
  writeFileSync(join(directory, 'secret.txt'), 'nobody is to see this');
  const report = join(directory, 'experiment.html');
  writeFileSync(report, '<!doctype html><p>an experiment</p>');
  const catalog: Catalog = {
    runs: () => [watchedRun(path)],
    experiments: () => [{ id: 'exp-1', name: 'an experiment', progress: '1 of 2', report }],
  };
  const server = await startWatchServer({ catalog, host: '127.0.0.1', port: 0, token });
  t.teardown(() => server.close());
  const base = `http://127.0.0.1:${server.port}`;
  return { path, base, port: server.port, url: server.url };
}

/** As it is written, without the care that `fetch` takes of paths and headers. */
function raw(port: number, path: string, headers: Record<string, string> = {}, method = 'GET') {
  return new Promise<{ status: number; body: string }>((resolve, reject) => {
    const sent = httpRequest({ host: '127.0.0.1', port, path, headers, method }, (response) => {
      let body = '';
      response.on('data', (chunk) => {
        body += chunk;
      });
      response.on('end', () => resolve({ status: response.statusCode!, body }));
    });
    sent.on('error', reject);
    sent.end();
  });
}

/** The parts of the first events of an address, until `enough`. */
async function partsOf(
  address: string,
  enough: (parts: Record<string, unknown>) => boolean,
  then: () => void = () => {},
): Promise<Record<string, unknown>> {
  const abort = new AbortController();
  const response = await fetch(address, { signal: abort.signal });
  const parts: Record<string, unknown> = {};
  let text = '';
  let isFirst = true;
  for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
    text += chunk;
    for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
      const data = /^data: (.*)$/m.exec(text.slice(0, end))?.[1];
      text = text.slice(end + 2);
      if (data === undefined) continue;
      Object.assign(parts, JSON.parse(data));
      if (isFirst) then();
      isFirst = false;
    }
    if (!isFirst && enough(parts)) break;
  }
  abort.abort();
  return parts;
}

test('a last step at no time is listed without one, which a page could not show', async (t) => {
  const path = temporaryDirectory(t);
  writeFileSync(join(path, 'metrics.jsonl'), `${JSON.stringify({ ...record(1), time: 'noon' })}\n`);
  t.is((await new RunList().list([watchedRun(path)]))[0]!.updated, null);
});

test('a request for what is no address is refused, and the page goes on', async (t) => {
  const { port } = await serve(t);
  const host = { host: 'localhost' };
  for (const path of ['//', '//[', 'http://[/']) t.is((await raw(port, path, host)).status, 400, path);
  t.is((await raw(port, '/', host)).status, 200);
});

test('a stranger without the token gets nothing; with it, a cookie is enough from then on', async (t) => {
  const { base, port, url } = await serve(t, TOKEN);
  t.true(url.endsWith(`/?token=${TOKEN}`));
  for (const path of [
    '/',
    '/runs.json',
    '/events?run=run-1',
    '/assets/watch.js',
    '/runs/run-1/report.html',
  ]) {
    const response = await fetch(`${base}${path}`);
    t.is(response.status, 401, path);
    t.notRegex(await response.text(), /run-1|loss/);
  }
  for (const wrong of ['?token=', '?token=wrong', `?token=${TOKEN}x`]) {
    t.is((await fetch(`${base}/${wrong}`, { redirect: 'manual' })).status, 401);
  }
  const first = await fetch(`${base}/?token=${TOKEN}&a=b`, { redirect: 'manual' });
  t.is(first.status, 303);
  t.is(first.headers.get('location'), '/?a=b');
  const cookie = first.headers.get('set-cookie')!;
  t.regex(cookie, /HttpOnly; SameSite=Lax/);
  const headers = { Cookie: cookie.split(';')[0]! };
  t.is((await fetch(`${base}/runs.json`, { headers })).status, 200);
  t.is((await fetch(`${base}/runs.json`, { headers: { Authorization: `Bearer ${TOKEN}` } })).status, 200);
  t.is((await raw(port, '/runs.json', { ...headers, Host: 'a.name.of.this.host' })).status, 200);
});

test('without a token, only requests that name this machine are answered', async (t) => {
  const { port } = await serve(t);
  for (const host of ['localhost', `127.0.0.1:${port}`, '[::1]:1']) {
    t.is((await raw(port, '/runs.json', { Host: host })).status, 200, host);
  }
  for (const host of ['evil.example', 'localhost.evil.example', '127.0.0.1.evil.example']) {
    t.is((await raw(port, '/runs.json', { Host: host })).status, 403, host);
  }
});

test('nothing but what is listed can be reached, and nothing can be changed', async (t) => {
  const { port } = await serve(t);
  const paths = [
    ...['/../secret.txt', '/runs/../../secret.txt', '/runs/..%2f..%2fsecret.txt/report.html', '/secret.txt'],
    ...[
      '/runs/run-2/report.html',
      '/experiments/run-1/report.html',
      '/events?run=..',
      '/assets/../server.js',
    ],
    ...['/runs/run-1/metrics.jsonl', '//etc/passwd', '/%2e%2e/secret.txt'],
  ];
  for (const path of paths) {
    const { status, body } = await raw(port, path);
    t.is(status, 404, path);
    t.false(body.includes('nobody'));
  }
  for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS']) {
    t.is((await raw(port, '/runs.json', {}, method)).status, 405, method);
  }
});

test('the page and its script load nothing from elsewhere; a report is shown as if it came from nowhere', async (t) => {
  const { base } = await serve(t);
  const page = await fetch(`${base}/`);
  t.regex(
    page.headers.get('content-security-policy')!,
    /default-src 'none'; script-src 'self'; style-src 'self'/,
  );
  const html = await page.text();
  t.notRegex(html, /https?:|style=|<script>|onclick/);
  const script = await (await fetch(`${base}/assets/watch.js`)).text();
  t.notRegex(script, /^(import|export) |https?:\/\//m);
  // One file after another: a name that two of them have would not parse.
  t.notThrows(() => new vm.Script(script));
  const experiment = await fetch(`${base}/experiments/exp-1/report.html`);
  t.regex(experiment.headers.get('content-security-policy')!, /sandbox allow-scripts$/);
  const frozen = await fetch(`${base}/runs/run-1/report.html`);
  t.regex(await frozen.text(), /<h1>a &lt;b&gt;run&lt;\/b&gt; <span class="badge running">/);
});

test('all runs are listed with how far they are, and those that are chosen are compared', async (t) => {
  const { base } = await serve(t);
  const { runs, comparison, experiments } = (await partsOf(
    `${base}/events?runs=run-1&measure=loss&axis=tokens`,
    (parts) => 'comparison' in parts,
  )) as { runs: object[]; comparison: Comparison; experiments: object[] };
  t.like(runs[0]!, {
    ...{ id: 'run-1', state: 'running', step: 20, steps: 100, loss: 4, validationLoss: 4.25 },
    ...{ secondsLeft: 80, spikes: 1 },
  });
  t.is(comparison.curves[0]!.x.at(-1), 20 * 4096);
  t.deepEqual(experiments, [{ id: 'exp-1', name: 'an experiment', progress: '1 of 2', hasReport: true }]);
});

test('a run’s page is sent once, and then what has changed; steps that are taken back are', async (t) => {
  const { base, path } = await serve(t);
  const lossOf = (parts: Record<string, unknown>) => {
    const { steps, series } = parts['chart:loss'] as ChartData;
    return [steps.at(-1), series[0]!.values.at(-1)];
  };
  let first: Record<string, unknown> | undefined;
  const parts = await partsOf(
    `${base}/events?run=run-1`,
    (now) => {
      first ??= structuredClone(now);
      return lossOf(now)[1] === 2;
    },
    () => {
      truncateSync(join(path, 'metrics.jsonl'), lines(1, 10).length);
      appendFileSync(join(path, 'metrics.jsonl'), lines(11, 15, 2));
    },
  );
  t.deepEqual(lossOf(first!), [20, 4]);
  t.deepEqual(lossOf(parts), [15, 2]);
  t.regex(String(parts['section:chart-loss']), /data-chart="loss"/);
});

test('only parts that are other than before are sent, and those that are gone as null', (t) => {
  const sent = new SentParts();
  t.deepEqual(JSON.parse(sent.changes({ a: 1, b: [2], c: 'x' })!), { a: 1, b: [2], c: 'x' });
  t.is(sent.changes({ a: 1, b: [2], c: 'x' }), undefined);
  t.deepEqual(JSON.parse(sent.changes({ a: 1, b: [3] })!), { b: [3], c: null });
});

test('after a run has gone back, its layers are those of the measurement that it rests on', async (t) => {
  const path = temporaryDirectory(t);
  writeFileSync(join(path, 'metrics.jsonl'), lines(1, 20));
  const measured = (step: number) =>
    `${JSON.stringify({ step, gates: [], layers: [{ layer: 0, gates: [] }] })}\n`;
  const log = join(path, 'diagnostics.jsonl');
  writeFileSync(log, measured(10) + measured(20));
  const follower = new RunFollower(path);
  t.teardown(() => follower.close());
  await follower.ready;
  const lastStep = async () => (await follower.describe({})).diagnostics?.last?.step;
  t.is(await lastStep(), 20);
  const { version } = follower;
  truncateSync(log, measured(10).length);
  while (follower.version === version) await follower.changed(version, 1000);
  t.is(await lastStep(), 10);
});

test('a stretch of steps is shown finer than the whole run', async (t) => {
  const path = temporaryDirectory(t);
  writeFileSync(join(path, 'metrics.jsonl'), lines(1, 8000));
  const follower = new RunFollower(path);
  t.teardown(() => follower.close());
  await follower.ready;
  const stepsOf = async (range?: { from: number; to: number }) => {
    const parts = runParts({}, await follower.describe({}, range));
    return (parts['chart:loss'] as { steps: number[] }).steps;
  };
  t.true((await stepsOf()).length < 4000);
  t.deepEqual(
    await stepsOf({ from: 4001, to: 4500 }),
    Array.from({ length: 500 }, (_, i) => 4001 + i),
  );
});
