/** What no peer sends, from one that has the run's secret: nothing ends of it, and nothing comes out otherwise. */

import { setTimeout as delay } from 'node:timers/promises';
import { PROTOCOL_VERSION } from '@sluice/collectives';
import test from 'ava';
import { Dealer, Push } from 'zeromq';
import { allowLongRun, FRAMES, malformedFrames } from '../support/malformed.ts';
import { startRun } from './support/startRun.ts';

const error = { code: 'SLUICE_E_DISK_FULL', message: 'x', details: {} };

test.serial('malformed frames to the coordinator and to a worker change nothing', async (t) => {
  allowLongRun(t);
  const { server, exits, end } = await startRun({
    worldSize: 2,
    transport: 'tcp',
    endpoint: 'tcp://127.0.0.1:0',
  });
  t.teardown(end);
  const infos = await server.ready();
  const toCoordinator = new Dealer({ linger: 0 });
  toCoordinator.connect(server.endpoint);
  const toWorker = new Push({ linger: 0 });
  toWorker.connect(infos[1]!.endpoint);
  const messages = [
    [PROTOCOL_VERSION, 'hello', { token: server.token, rank: 7, host: 'h', pid: 1, endpoint: 'tcp://x:1' }],
    [PROTOCOL_VERSION, 'result', { id: 1, value: 3 }],
    [PROTOCOL_VERSION, 'failure', { id: 1, error }],
    [PROTOCOL_VERSION, 'goodbye', { reason: 'x' }],
    [PROTOCOL_VERSION, 'beat', { activity: 'x' }],
  ] as const;
  void (async () => {
    for await (const _ of toCoordinator);
  })().catch(() => {});
  for (const frame of malformedFrames(2, FRAMES, messages)) {
    await toCoordinator.send(frame);
    await toWorker.send(frame.length % 2 ? frame : [frame, frame]);
  }
  await delay(100);
  t.deepEqual(await server.callAll('who', {}), [
    { rank: 0, size: 2 },
    { rank: 1, size: 2 },
  ]);
  const [first, second] = await server.callAll<{ sums: Buffer; pair: number[] }>('collect', {
    length: 100_000,
  });
  t.true(first!.sums.equals(second!.sums));
  t.deepEqual(first!.pair, [3, 3, 3]);
  await server.callAll('stop', {}, { kind: 'stop' });
  t.deepEqual(await Promise.all(exits), [0, 0]);
  toCoordinator.close();
  toWorker.close();
});
