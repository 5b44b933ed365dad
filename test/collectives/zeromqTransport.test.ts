import { once } from 'node:events';
import { connect } from 'node:net';
import { type MessageHeader, TcpProxy, ZeroMqTransport } from '@sluice/collectives';
import test from 'ava';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';

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

test('when a transport closes, what a peer was promised still arrives, and what waits in line is dropped', async (t) => {
  const directory = temporaryDirectory(t);
  const open = (rank: number) => ZeroMqTransport.open({ kind: 'ipc', rank, token: 'x', directory });
  const transport = await open(0);
  // The peer is not there yet, so the queue of its connection fills.
  transport.connect([transport.endpoint, `ipc://${directory}/rank-1-${process.pid}`]);
  let accepted = 0;
  const sent = Array.from({ length: 20 }, () => transport.send(1, HEADER));
  for (const message of sent) void message.then(() => accepted++).catch(() => {});
  await sent[0];
  await new Promise(setImmediate);
  const promised = accepted;
  t.true(promised > 0 && promised < sent.length, `${promised} messages`);
  await transport.close();
  await t.notThrowsAsync(Promise.all(sent));

  const peer = await open(1);
  let arrived = 0;
  await new Promise<void>((resolve) => {
    peer.onMessage(() => {
      if (++arrived === promised) resolve();
    });
  });
  await peer.close();
  t.is(arrived, promised);
});

test('a connection between machines that breaks is told with the peer’s rank', async (t) => {
  let tell!: (broken: [number, string]) => void;
  const told = new Promise<[number, string]>((resolve) => {
    tell = resolve;
  });
  const open = (rank: number) =>
    ZeroMqTransport.open({
      kind: 'tcp',
      rank,
      token: 'x',
      onBroken: (peer, { code }) => tell([peer, `${code} of ${rank}`]),
    });
  const [transport, peer] = await Promise.all([open(0), open(1)]);
  const proxy = await TcpProxy.open(Number(peer.endpoint.split(':').at(-1)));
  t.teardown(() => proxy.close());
  const arrived = new Promise<void>((resolve) => {
    peer.onMessage(() => resolve());
  });
  transport.connect([transport.endpoint, `tcp://127.0.0.1:${proxy.port}`]);
  await transport.send(1, HEADER);
  await arrived;
  proxy.cut();
  t.deepEqual(await told, [1, 'SLUICE_E_WORKER_LOST of 0']);
  await Promise.all([transport.close(), peer.close()]);
});

test('where peers reach a rank by a number that is none of its machine’s, it listens all the same', async (t) => {
  // Of the range for documentation (RFC 5737): no machine has it.
  const transport = await ZeroMqTransport.open({ kind: 'tcp', rank: 0, token: 'x', host: '203.0.113.77' });
  t.teardown(() => transport.close());
  const [, port] = /^tcp:\/\/203\.0\.113\.77:(\d+)$/.exec(transport.endpoint) ?? [];
  t.truthy(port);
  const socket = connect(Number(port), '127.0.0.1');
  t.teardown(() => socket.destroy());
  await once(socket, 'connect');
  t.pass();
});
