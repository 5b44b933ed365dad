import { DetourService, detoured, type MessageHeader, ZeroMqTransport } from '@sluice/collectives';
import test from 'ava';

const HEADER: MessageHeader = {
  kind: 'confirm',
  operation: 'barrier',
  dataType: 'uint8',
  phase: 0,
  group: 0,
  sequence: 0,
  from: 0,
  offset: 0,
  total: 1,
};

test('a worker is reached where it listens, unless there is a service of detours', async (t) => {
  t.is(await detoured(3, 'tcp://127.0.0.1:9', undefined), 'tcp://127.0.0.1:9');
  t.is(await detoured(3, 'ipc:///somewhere', '1'), 'ipc:///somewhere');
});

test('a detour leads to the worker, is known by its rank, and can be cut', async (t) => {
  const service = await DetourService.open();
  t.teardown(() => service.close());
  let tell!: (broken: number) => void;
  const told = new Promise<number>((resolve) => {
    tell = resolve;
  });
  const open = (rank: number) =>
    ZeroMqTransport.open({ kind: 'tcp', rank, token: 'x', onBroken: (peer) => tell(peer) });
  const [transport, peer] = await Promise.all([open(0), open(1)]);
  const endpoint = await detoured(1, peer.endpoint, String(service.port));
  t.not(endpoint, peer.endpoint);
  t.deepEqual(service.detours, []);
  const arrived = new Promise<void>((resolve) => {
    peer.onMessage(() => resolve());
  });
  transport.connect([transport.endpoint, endpoint]);
  await transport.send(1, HEADER);
  await arrived;
  t.deepEqual(
    service.detours.map(({ rank }) => rank),
    [1],
  );
  service.detours[0]!.link.cut();
  t.is(await told, 1);
  await Promise.all([transport.close(), peer.close()]);
});

test('a service that is not there is an error, not a silence', async (t) => {
  const service = await DetourService.open();
  const { port } = service;
  await service.close();
  await t.throwsAsync(detoured(0, 'tcp://127.0.0.1:9', String(port)), { code: 'ECONNREFUSED' });
});
