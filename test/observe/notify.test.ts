/** Notices that are brought to servers and programs. */

import { readFileSync } from 'node:fs';
import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { Messenger, type Notice, noticeBody } from '@sluice/observe';
import test, { type ExecutionContext } from 'ava';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';

const NOTICE: Notice = {
  ...{ event: 'rollback', run: 'a <run>', step: 1200, time: '2026-11-29T14:00:00.000Z' },
  ...{ text: 'Went back to step 1,100 & on.', isBad: true },
};

/** Answers with the statuses in order, the last one from then on. */
async function server(t: ExecutionContext, ...statuses: number[]) {
  const got: { body: string; headers: IncomingHttpHeaders }[] = [];
  const one = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk) => {
      body += chunk;
    });
    request.on('end', () => {
      response.writeHead(statuses[Math.min(got.length, statuses.length - 1)] ?? 200).end();
      got.push({ body, headers: request.headers });
    });
  });
  await new Promise<void>((resolve) => one.listen(0, '127.0.0.1', resolve));
  t.teardown(() => one.close());
  return { got, url: `http://127.0.0.1:${(one.address() as AddressInfo).port}/hook/secret-part` };
}

test('each service is sent what it understands, and texts mean nothing else there', (t) => {
  const of = (name: Parameters<typeof noticeBody>[0]) => noticeBody(name, NOTICE);
  t.deepEqual(JSON.parse(of('json').body), NOTICE);
  t.deepEqual(JSON.parse(of('slack').body), {
    text: '⚠ a &lt;run&gt;, step 1,200: Went back to step 1,100 &amp; on.',
  });
  t.like(JSON.parse(of('discord').body), { allowed_mentions: { parse: [] } });
  t.is(JSON.parse(of('teams').body).attachments[0].content.body[1].color, 'Attention');
  t.deepEqual(of('text'), {
    type: 'text/plain; charset=utf-8',
    body: '⚠ a <run>, step 1,200: Went back to step 1,100 & on.',
  });
});

test('notices arrive in order, with the token; a server that fails is asked again', async (t) => {
  const { got, url } = await server(t, 500, 200);
  const warnings: string[] = [];
  const place = { url, token: 'abc', template: 'json' } as const;
  const messenger = new Messenger(place, { warn: (text) => warnings.push(text), pausesMs: [1, 1] });
  messenger.send({ ...NOTICE, step: 1 });
  messenger.send({ ...NOTICE, step: 2 });
  while (got.length < 3) await new Promise((resolve) => setTimeout(resolve, 5));
  await messenger.close(5000);
  t.deepEqual(
    got.map(({ body }) => JSON.parse(body).step),
    [1, 1, 2],
  );
  t.is(got[0]!.headers.authorization, 'Bearer abc');
  t.deepEqual(warnings, []);
});

test('a server that is not there is told of once, without its address, and holds nobody up', async (t) => {
  const warnings: string[] = [];
  const place = { url: 'http://127.0.0.1:9/hook/secret-part', template: 'text' } as const;
  const messenger = new Messenger(place, { warn: (text) => warnings.push(text), pausesMs: [] });
  for (let step = 0; step < 300; step++) messenger.send({ ...NOTICE, step });
  await messenger.close(20_000);
  t.is(warnings.length, 1);
  t.regex(warnings[0]!, /127\.0\.0\.1:9 did not answer/);
  t.false(warnings[0]!.includes('secret'));
});

test('a program gets the notice on its standard input', async (t) => {
  const path = join(temporaryDirectory(t), 'notice');
  const command = [
    process.execPath,
    '-e',
    'process.stdin.pipe(require("fs").createWriteStream(process.argv[1])); console.error(process.env.SLUICE_EVENT)',
    path,
  ];
  const warnings: string[] = [];
  const messenger = new Messenger({ command }, { warn: (text) => warnings.push(text), pausesMs: [] });
  messenger.send(NOTICE);
  await messenger.close(20_000);
  t.deepEqual(JSON.parse(readFileSync(path, 'utf8')), NOTICE);
  const gone = new Messenger(
    { command: ['/no/such/program'] },
    { warn: (text) => warnings.push(text), pausesMs: [] },
  );
  gone.send(NOTICE);
  await gone.close(20_000);
  t.regex(warnings.join(), /\/no\/such\/program could not be started/);
});
