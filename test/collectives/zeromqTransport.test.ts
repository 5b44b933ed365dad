import { once } from 'node:events';
import { connect } from 'node:net';
import { networkInterfaces } from 'node:os';
import { setTimeout } from 'node:timers/promises';
import {
  generateCurveKeys,
  type MessageHeader,
  type Payload,
  TcpProxy,
  ZeroMqTransport,
} from '@sluice/collectives';
import { Authenticator } from '@sluice/collectives/control';
import test, { type ExecutionContext } from 'ava';
import { Context, Pull, Push } from 'zeromq';
import { OwnMemory } from '../../packages/collectives/src/peerMemory.ts';
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

test('a sealed message is taken once, by the rank that it is for, as it was sent; all others are left out and told', async (t) => {
  const open = async (rank: number) => {
    const taken: string[] = [];
    const forged: number[] = [];
    let arrived = () => {};
    const transport = await ZeroMqTransport.open({
      ...{ kind: 'tcp', rank, token: 'x', seals: true },
      onForged: (from) => {
        forged.push(from);
        arrived();
      },
    });
    transport.onMessage((_, payload) => {
      taken.push(Buffer.from(payload!.view(0, payload!.byteLength, new Uint8Array(0))).toString());
      arrived();
    });
    const stranger = new Push({ linger: 0 });
    stranger.connect(transport.endpoint);
    t.teardown(() => Promise.all([transport.close(), stranger.close()]));
    const give = async (frames: Buffer[]) => {
      const arrival = new Promise<void>((resolve) => {
        arrived = resolve;
      });
      await stranger.send(frames);
      await arrival;
    };
    return { transport, taken, forged, give };
  };
  const [sender, receiver, other] = await Promise.all([open(0), open(1), open(2)]);
  const wire = new Pull();
  t.teardown(() => wire.close());
  await wire.bind('tcp://127.0.0.1:*');
  sender.transport.connect([sender.transport.endpoint, wire.lastEndpoint!]);
  await sender.transport.send(1, HEADER, Buffer.from('first'));
  const first = await wire.receive();
  await sender.transport.send(1, HEADER, Buffer.from('second'));
  const second = await wire.receive();
  const [header, seal, payload] = second as [Buffer, Buffer, Buffer];
  t.is(payload.toString(), 'second');

  await other.give(second);
  await receiver.give([header, payload]);
  await receiver.give([header, seal]);
  await receiver.give([header, seal, Buffer.from('sekond')]);
  await receiver.give([header, first[1]!, payload]);
  t.deepEqual([other.taken, receiver.taken], [[], []]);
  t.deepEqual([other.forged, receiver.forged], [[0], [0, 0, 0, 0]]);

  await receiver.give(first);
  await receiver.give(second);
  await receiver.give(second);
  await receiver.give(first);
  t.deepEqual(receiver.taken, ['first', 'second']);
  t.is(receiver.forged.length, 6);
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

const hasIpv6 = Object.values(networkInterfaces()).some((all) =>
  all?.some(({ address }) => address === '::1'),
);

(hasIpv6 ? test : test.skip)('ranks reach each other by numbers of IPv6', async (t) => {
  const curve = generateCurveKeys();
  const open = async (rank: number, host: string) => {
    const context = new Context();
    const authenticator = await Authenticator.start(context, curve);
    const transport = await ZeroMqTransport.open({ kind: 'tcp', rank, token: 'x', host, curve, context });
    t.teardown(async () => {
      await transport.close();
      authenticator.close();
    });
    return transport;
  };
  // The second number is of the range for documentation (RFC 3849): no machine has it.
  const [sender, receiver] = await Promise.all([open(0, '2001:db8::77'), open(1, '::1')]);
  t.regex(sender.endpoint, /^tcp:\/\/\[2001:db8::77\]:\d+$/);
  const arrived = new Promise<void>((resolve) => {
    receiver.onMessage(() => resolve());
  });
  sender.connect([sender.endpoint, receiver.endpoint]);
  await sender.send(1, HEADER);
  await arrived;
  t.pass();
});

/** Two transports of this process, connected, and what the second is sent by the first. */
async function pairOn(t: ExecutionContext, readsMemory: boolean) {
  const directory = temporaryDirectory(t);
  const token = `${directory}${readsMemory}`;
  const open = (rank: number) => ZeroMqTransport.open({ kind: 'ipc', rank, token, directory, readsMemory });
  const [sender, receiver] = await Promise.all([open(0), open(1)]);
  const endpoints = [sender.endpoint, receiver.endpoint];
  for (const transport of [sender, receiver]) transport.connect(endpoints);
  const payloads: Payload[] = [];
  let onPayload: () => void = () => {};
  receiver.onMessage((_, payload) => {
    payloads.push(payload!);
    onPayload();
  });
  sender.onMessage(() => {});
  t.teardown(() => Promise.all([sender.close(), receiver.close()]));
  const send = async (bytes: Uint8Array) => {
    const came = new Promise<void>((resolve) => {
      onPayload = resolve;
    });
    await sender.send(1, { ...HEADER, kind: 'data', total: bytes.length }, bytes);
    await came;
    return payloads.at(-1)!;
  };
  return { send };
}

for (const [name, readsMemory] of [
  ['in the memory of their sender', true],
  ['through the shared ring', false],
] as const)
  test(`large payloads are read ${name}, whole and in parts`, async (t) => {
    const { send } = await pairOn(t, readsMemory);
    const isPossible = OwnMemory.open('x', 0) !== undefined;
    const expected = readsMemory && isPossible ? 'PeerPayload' : 'RingPayload';
    const bytes = new Uint8Array(new SharedArrayBuffer(1 << 20)).map((_, i) => (i * 31) % 251);
    // What the peers can read of each other they find out beside the first messages.
    let payload = await send(bytes);
    for (let i = 0; i < 100 && !(payload.constructor.name === expected); i++) {
      payload.release();
      await setTimeout(20);
      payload = await send(bytes);
    }
    t.is(payload.constructor.name, expected);
    t.is(payload.byteLength, bytes.length);
    const whole = Buffer.alloc(bytes.length);
    payload.copyTo(whole);
    t.true(whole.equals(bytes));
    const part = payload.view(70_001, 5000, new Uint8Array(5000));
    t.true(whole.subarray(70_001, 75_001).equals(part));
    const kept = payload.keep();
    kept.copyTo(whole.fill(0));
    t.true(whole.equals(bytes));
    kept.release();
  });
