import { type AddressInfo, createServer, type Socket } from 'node:net';
import { generateCurveKeys } from '@sluice/collectives';
import test from 'ava';
import fc from 'fast-check';
import { type Examined, faultsOf, type Link } from '../../../launcher/src/doctor/hosts/examineHosts.ts';
import { listen, tryLink } from '../../../launcher/src/doctor/hosts/link.ts';
import type { HostFacts } from '../../../launcher/src/doctor/hosts/probe.ts';
import { rounds } from '../../../launcher/src/doctor/hosts/rounds.ts';

test('every pair is tried once, and no host is in two pairs of a round', (t) => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 17 }), (count) => {
      const all = rounds(count);
      for (const pairs of all) t.is(new Set(pairs.flat()).size, 2 * pairs.length);
      const met = all.flat().map(([a, b]) => `${a}-${b}`);
      t.is(new Set(met).size, met.length);
      t.is(met.length, (count * (count - 1)) / 2);
    }),
  );
});

test('a connection is measured both ways over CURVE', async (t) => {
  const curve = generateCurveKeys();
  const listener = await listen('127.0.0.1', curve);
  t.teardown(() => listener.close());
  const { failure, roundTripMs, bytesPerSecond } = await tryLink(listener.endpoint, curve);
  t.is(failure, null);
  t.true(roundTripMs! > 0 && bytesPerSecond! > 0);
});

test('why a connection does not come about is told', async (t) => {
  const curve = generateCurveKeys();
  const listener = await listen('127.0.0.1', curve);
  t.teardown(() => listener.close());
  const stranger = await tryLink(listener.endpoint, generateCurveKeys(), 300);
  t.regex(stranger.failure!, /^other program: something answers there, but not with the key/);

  const { port, end } = await plainServer();
  t.teardown(end);
  const other = await tryLink(`tcp://127.0.0.1:${port}`, curve, 300);
  t.regex(other.failure!, /^other program/);

  await end();
  t.regex((await tryLink(`tcp://127.0.0.1:${port}`, curve, 300)).failure!, /^refused: nothing listens/);
});

/** Accepts connections and speaks something else. */
async function plainServer() {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket.on('error', () => {}));
    socket.write('SSH-2.0-other\r\n');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const end = async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  };
  return { port: (server.address() as AddressInfo).port, end };
}

const BUILD = { sluice: '1.0.0', content: 'a'.repeat(64), arithmetic: 'native-1', node: 'v20' };

function examined(name: string, changes: Partial<HostFacts> = {}): Examined {
  const facts: HostFacts = {
    machine: name,
    address: `10.0.0.${name.length}`,
    endpoint: 'tcp://10.0.0.1:1',
    failure: null,
    build: BUILD,
    cores: 2,
    memoryBytes: 1,
    gpus: 0,
    ...changes,
  };
  return { name, failure: undefined, probe: { facts, tryLink: () => Promise.reject(), end: () => {} } };
}

test('hosts that are alike and reach each other have no faults; another Node is none', (t) => {
  const node = { ...BUILD, node: 'v24' };
  t.deepEqual(faultsOf([examined('here'), examined('h1'), examined('h22', { build: node })], []), []);
});

test('each fault names the host or the pair, and why', (t) => {
  const link: Link = {
    from: 'h1',
    to: 'h22',
    address: '10.0.0.3',
    roundTripMs: null,
    bytesPerSecond: null,
    failure: 'timed out: a firewall',
  };
  const faults = faultsOf(
    [
      examined('here'),
      examined('h1', { build: { ...BUILD, content: 'b'.repeat(64) } }),
      examined('h22', { address: '127.0.0.1' }),
      examined('h333', { endpoint: null, failure: 'its workers could not listen' }),
      { name: 'h4', probe: undefined, failure: 'its key is not the known one' },
    ],
    [link],
  );
  t.is(faults.length, 5);
  t.regex(faults[0]!, /^h1 would not compute what this host computes: content is bbb/);
  t.regex(faults[1]!, /^h333: its workers could not listen; say another by address=/);
  t.is(faults[2], 'h4 cannot be looked at: its key is not the known one');
  t.regex(faults[3]!, /^h22 would be reached by 127\.0\.0\.1, which means every host to itself/);
  t.is(faults[4], 'h1 cannot connect to h22 at 10.0.0.3: timed out: a firewall');
});
