import { setTimeout as delay } from 'node:timers/promises';
import { generateCurveKeys, PROTOCOL_VERSION } from '@sluice/collectives';
import { connectorSecurity } from '@sluice/collectives/control';
import type { SluiceError } from '@sluice/core';
import test, { type ExecutionContext } from 'ava';
import { Dealer } from 'zeromq';
import type { AgentHost } from '../../../launcher/src/fleet/agentHost.ts';
import { FleetServer } from '../../../launcher/src/fleet/fleetServer.ts';
import {
  type AgentFacts,
  type Build,
  decodeFromCoordinator,
  encodeFromAgent,
} from '../../../launcher/src/fleet/protocol.ts';
import { allowLongRun, FRAMES, malformedFrames } from '../../support/malformed.ts';

const build: Build = { sluice: '1.0.0', content: 'abc', arithmetic: 'native-1', node: 'v20.0.0' };
const curve = generateCurveKeys();

const facts = (changes: Partial<AgentFacts> = {}): AgentFacts => ({
  node: 'h1',
  incarnation: [1, 0],
  session: `session-${Math.random().toString(36).slice(2)}`,
  machine: 'machine-1',
  pid: 4711,
  address: '127.0.0.1',
  cores: 2,
  memoryBytes: 2 ** 30,
  devices: [],
  build,
  ...changes,
});

interface Listening {
  readonly server: FleetServer;
  readonly joined: AgentHost[];
  readonly lost: string[];
  readonly refused: SluiceError[];
  readonly stops: string[];
}

async function listen(t: ExecutionContext): Promise<Listening> {
  const seen = {
    joined: [] as AgentHost[],
    lost: [] as string[],
    refused: [] as SluiceError[],
    stops: [] as string[],
  };
  const server = await FleetServer.listen(
    { endpoint: 'tcp://127.0.0.1:0', curve, build },
    {
      joined: (host) => seen.joined.push(host),
      lost: (host, reason) => seen.lost.push(`${host.name}: ${reason}`),
      refused: (_, error) => seen.refused.push(error),
      stop: (reason) => seen.stops.push(reason),
      asked: () => ({ hosts: seen.joined.length }),
    },
  );
  t.teardown(() => server.end(0, 'test', 0));
  return { server, ...seen };
}

class FakeAgent {
  readonly facts: AgentFacts;
  readonly socket: Dealer;

  constructor(t: ExecutionContext, server: FleetServer, changes: Partial<AgentFacts> = {}) {
    this.facts = facts(changes);
    this.socket = new Dealer({ ...connectorSecurity(curve), routingId: this.facts.session, linger: 0 });
    this.socket.connect(server.endpoint);
    t.teardown(() => this.socket.close());
  }

  async join(): Promise<string> {
    await this.socket.send(encodeFromAgent('join', this.facts));
    return (await this.next('welcome', 'refused')).kind;
  }

  async next(...kinds: string[]) {
    for await (const [frame] of this.socket) {
      const message = decodeFromCoordinator(frame!)!;
      if (kinds.includes(message.kind)) return message;
    }
    throw new Error(`no ${kinds.join(' or ')} came`);
  }
}

/** Takes whatever comes, until the socket is closed. */
async function readAll(socket: Dealer): Promise<void> {
  try {
    for await (const _ of socket);
  } catch {
    // It was closed while it was asked.
  }
}

/** Waits for what follows from a message on its way. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await delay(5);
}

test('an agent joins, is told which worker to start, and says how it ended', async (t) => {
  const { server, joined } = await listen(t);
  const agent = new FakeAgent(t, server);
  t.is(await agent.join(), 'welcome');
  const [host] = joined;
  t.is(host!.name, 'h1');
  const lines: string[] = [];
  const worker = host!.startWorker({
    rank: 3,
    invitation: { coordinator: 'tcp://127.0.0.1:1', rank: 3, token: 'secret', transport: 'tcp' },
    environment: { RANK: '3' },
    log: (line) => lines.push(line),
  });
  const start = await agent.next('start');
  t.like(start.body, { rank: 3, environment: { RANK: '3' }, invitation: { token: 'secret' } });
  const { id, number } = start.body as { id: string; number: number };
  await agent.socket.send(encodeFromAgent('beat', { heard: number, workers: [{ id, pid: 99 }] }));
  await agent.socket.send(encodeFromAgent('output', { id, line: 'hello' }));
  await agent.socket.send(encodeFromAgent('ended', { id, how: 'exit code 3', exitCode: 3, signal: null }));
  t.like(await worker.ended, { how: 'exit code 3', exitCode: 3 });
  t.is(worker.pid, 99);
  t.deepEqual(lines, ['hello']);
});

test('a worker that was asked for and does not run has ended, though nobody could say so', async (t) => {
  const { server, joined } = await listen(t);
  const agent = new FakeAgent(t, server);
  await agent.join();
  const worker = joined[0]!.startWorker({
    rank: 0,
    invitation: { coordinator: 'x', rank: 0, token: 'x', transport: 'tcp' },
    environment: {},
    log: () => {},
  });
  const { number } = (await agent.next('start')).body as { number: number };
  await agent.socket.send(encodeFromAgent('beat', { heard: number - 1, workers: [] }));
  await agent.socket.send(encodeFromAgent('beat', { heard: number, workers: [] }));
  t.is((await worker.ended).how, 'an unknown cause');
});

test('an agent of another build or arithmetic is refused, with what differs', async (t) => {
  const { server, refused } = await listen(t);
  const agent = new FakeAgent(t, server, {
    build: { ...build, arithmetic: 'native-1-unfused', node: 'v22.1.0' },
  });
  t.is(await agent.join(), 'refused');
  t.is(refused[0]!.code, 'SLUICE_E_HOST_DIFFERS');
  t.regex(refused[0]!.message, /^h1 .*arithmetic is native-1-unfused there and native-1 here\.$/);
});

test('of two agents of a node the later incarnation counts, and the other is told to end', async (t) => {
  const { server, joined, lost, refused } = await listen(t);
  const first = new FakeAgent(t, server, { incarnation: [7, 1] });
  await first.join();
  const later = new FakeAgent(t, server, { incarnation: [7, 2], machine: 'machine-2' });
  t.is(await later.join(), 'welcome');
  t.is((await first.next('end')).kind, 'end');
  t.is(lost.length, 1);
  t.is(joined.length, 2);
  const older = new FakeAgent(t, server, { incarnation: [7, 1], machine: 'machine-3' });
  t.is(await older.join(), 'refused');
  t.is(refused[0]!.code, 'SLUICE_E_INCARNATION_OLD');
  t.deepEqual(
    server.hosts.map(({ facts: { incarnation } }) => incarnation),
    [[7, 2]],
  );
});

test('two machines cannot join under one name', async (t) => {
  const { server, refused } = await listen(t);
  await new FakeAgent(t, server).join();
  t.is(await new FakeAgent(t, server, { machine: 'another' }).join(), 'refused');
  t.is(refused[0]!.code, 'SLUICE_E_NODE_NAME_TAKEN');
});

test('an agent that says it was asked to stop has the run stopped; one that leaves is lost at once', async (t) => {
  const { server, stops, lost } = await listen(t);
  const agent = new FakeAgent(t, server);
  await agent.join();
  await agent.socket.send(encodeFromAgent('stop', { reason: 'SIGTERM' }));
  await agent.socket.send(encodeFromAgent('left', { reason: 'it wanted to' }));
  await until(() => lost.length > 0);
  t.deepEqual(stops, ['h1: SIGTERM']);
  t.deepEqual(lost, ['h1: it wanted to']);
});

test('an agent that a new coordinator does not know is told so, and can join', async (t) => {
  const { server } = await listen(t);
  const agent = new FakeAgent(t, server);
  await agent.socket.send(encodeFromAgent('beat', { heard: 5, workers: [] }));
  t.is((await agent.next('unknown')).kind, 'unknown');
  t.is(await agent.join(), 'welcome');
});

test('malformed frames change nothing: who is there stays, who comes is let in, no memory is kept', async (t) => {
  allowLongRun(t);
  const { server, joined } = await listen(t);
  const agent = new FakeAgent(t, server);
  await agent.join();
  const stranger = new FakeAgent(t, server, { node: 'h2' });
  const messages = [
    [PROTOCOL_VERSION, 'join', { ...facts({ node: 'h3' }) }],
    [PROTOCOL_VERSION, 'beat', { heard: 1, workers: [{ id: 'a', pid: 1 }] }],
    [PROTOCOL_VERSION, 'output', { id: 'a', line: 'b' }],
    [PROTOCOL_VERSION, 'ended', { id: 'a', how: 'b', exitCode: 0, signal: null }],
    [PROTOCOL_VERSION, 'files', { ask: 1, list: [{ path: 'a', size: 1 }], bytes: Buffer.alloc(9) }],
    [PROTOCOL_VERSION, 'ask', { what: 'ps' }],
  ] as const;
  // What is answered is read, as by any peer.
  for (const { socket } of [agent, stranger]) void readAll(socket);
  let sent = 0;
  for (const frame of malformedFrames(1, FRAMES, messages)) {
    await (sent++ % 2 ? agent : stranger).socket.send(frame);
  }
  const last = new FakeAgent(t, server, { node: 'h9', session: 'last' });
  t.is(await last.join(), 'welcome');
  t.true(joined.some(({ name }) => name === 'h1'));
  t.is(server.hosts.filter(({ name }) => name === 'h1')[0]!.gone, undefined);
});

test('a stranger without the key gets no answer', async (t) => {
  const { server, joined } = await listen(t);
  const stranger = new Dealer({ linger: 0, receiveTimeout: 300 });
  stranger.connect(server.endpoint);
  t.teardown(() => stranger.close());
  void stranger.send(encodeFromAgent('join', facts())).catch(() => {});
  await t.throwsAsync(stranger.receive());
  t.is(joined.length, 0);
});
