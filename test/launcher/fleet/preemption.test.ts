import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import test from 'ava';
import { watchPreemption } from '../../../launcher/src/fleet/preemption.ts';
import { temporaryDirectory } from '../../support/temporaryDirectory.ts';

/** Resolves with the notice; the watch itself keeps no process alive. */
function noticeAt(place: string): Promise<string> {
  const alive = setInterval(() => {}, 1000);
  return new Promise((resolve) => {
    watchPreemption(place, (notice) => {
      clearInterval(alive);
      resolve(notice);
    });
  });
}

test('a file that appears is a notice', async (t) => {
  const path = join(temporaryDirectory(t), 'going');
  const notice = noticeAt(path);
  writeFileSync(path, '');
  t.is(await notice, `a notice of preemption at ${path}`);
});

test('a URL that answers is a notice, and neither 404 nor FALSE is', async (t) => {
  const answers = [
    [404, ''],
    [200, 'FALSE'],
    [200, 'TRUE'],
  ] as const;
  let asked = 0;
  const server = createServer((_, response) => {
    const [status, body] = answers[Math.min(asked++, 2)]!;
    response.writeHead(status).end(body);
  }).listen(0, '127.0.0.1');
  t.teardown(() => server.close());
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  t.regex(await noticeAt(`http://127.0.0.1:${port}/preempted`), /preempted$/);
  t.is(asked, 3);
});
