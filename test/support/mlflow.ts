/** An MLflow server, as far as it is talked to. */

import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { ExecutionContext } from 'ava';

export interface Batch {
  readonly metrics?: { key: string; step: number; value: number }[];
  readonly params?: { key: string; value: string }[];
}

/** As much of a server as is talked to; `isAway` lets it fail. */
export async function mlflow(t: ExecutionContext) {
  const told = {
    isAway: false,
    onRun: () => {},
    experiments: [] as string[],
    runs: [] as object[],
    batches: [] as Batch[],
    statuses: [] as string[],
    endTimes: [] as (number | undefined)[],
  };
  const answers: Record<string, (body: Record<string, never>, query: URLSearchParams) => object | undefined> =
    {
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
      'runs/update': ({ status, end_time }) => {
        told.statuses.push(status!);
        told.endTimes.push(end_time as number | undefined);
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
