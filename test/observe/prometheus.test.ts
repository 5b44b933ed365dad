/** Metrics as Prometheus scrapes them. */

import { hostMetrics, RunMetrics, serveMetrics } from '@sluice/observe';
import test from 'ava';
import { failureOf } from '../support/failureOf.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';
import { record } from './support.ts';

async function ours(metrics: RunMetrics): Promise<string[]> {
  const text = await metrics.registry.metrics();
  return text.split('\n').filter((line) => /^sluice_(?!disk)/.test(line));
}

test('gauges tell the last step, counters all that this process saw', async (t) => {
  const metrics = new RunMetrics({ run: 'a', steps: 100, directory: temporaryDirectory(t) });
  metrics.step(record(7, { loss: 4, groupNorms: { head: 2 }, spike: true, applied: false, tokens: 100 }));
  metrics.step(record(8, { loss: Number.NaN, tokens: 50 }));
  metrics.wentBack(6);
  const lines = await ours(metrics);
  for (const line of [
    'sluice_step{run="a"} 6',
    'sluice_steps{run="a"} 100',
    'sluice_loss{run="a"} Nan',
    'sluice_group_gradient_norm{group="head",run="a"} 2',
    'sluice_step_part_seconds{part="compute",run="a"} 1',
    'sluice_tokens_total{run="a"} 150',
    'sluice_spikes_total{run="a"} 1',
    'sluice_skipped_updates_total{run="a"} 1',
    'sluice_went_back_total{run="a"} 1',
  ]) {
    t.true(lines.includes(line), `${line} is not in\n${lines.join('\n')}`);
  }
  t.false(lines.some((line) => line.startsWith('sluice_validation_loss')));
});

test('ranks that are gone leave no number behind', async (t) => {
  const metrics = new RunMetrics({ run: 'a', steps: 100, directory: temporaryDirectory(t) });
  const worker = (rank: number, own: number) => ({ rank, host: 'x', own, waiting: 0, heardAgo: null });
  metrics.processes({ restarts: 0, savedStep: null, workers: [worker(0, 1), worker(1, 2)] });
  metrics.processes({ restarts: 1, savedStep: 40, workers: [worker(0, 3)] });
  const lines = (await ours(metrics)).filter((line) => /own|restarts|saved|heard/.test(line));
  t.deepEqual(lines.sort(), [
    'sluice_restarts{run="a"} 1',
    'sluice_saved_step{run="a"} 40',
    'sluice_worker_own_seconds{rank="0",host="x",run="a"} 3',
  ]);
});

test('they are served at /metrics and nowhere else, to be read only; a port that is taken is told', async (t) => {
  const registry = hostMetrics({
    ...{ node: 'n1', directory: temporaryDirectory(t) },
    ...{ workers: () => 3, heardAgo: () => undefined },
  });
  const server = await serveMetrics(registry, { host: '127.0.0.1', port: 0 });
  t.teardown(() => server.close());
  const response = await fetch(server.url);
  t.regex(response.headers.get('content-type')!, /^text\/plain; version=0\.0\.4/);
  const text = await response.text();
  t.regex(text, /^sluice_agent_workers\{node="n1"\} 3$/m);
  t.regex(text, /^sluice_disk_free_bytes\{node="n1"\} \d/m);
  t.regex(text, /^sluice_agent_coordinator_heard_seconds\{node="n1"\} Nan$/m);
  t.is((await fetch(server.url, { method: 'POST' })).status, 405);
  t.is((await fetch(server.url.replace('metrics', 'runs'))).status, 404);
  const port = Number(new URL(server.url).port);
  const { code } = await failureOf(serveMetrics(registry, { host: '127.0.0.1', port }));
  t.is(code, 'SLUICE_E_PORT_TAKEN');
});
