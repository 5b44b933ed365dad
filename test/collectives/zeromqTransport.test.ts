import { type MessageHeader, ZeroMqTransport } from '@sluice/collectives';
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
