import { rmSync } from 'node:fs';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import {
  Communicator,
  ControlServer,
  generateCurveKeys,
  type OperationRecord,
  PROTOCOL_VERSION,
} from '@sluice/collectives';
import test from 'ava';
import { Packr } from 'msgpackr';
import { Dealer, Router } from 'zeromq';
import { failureOf } from '../support/failureOf.ts';
import { startRun, WAYS, wayOptions } from './support/startRun.ts';

interface Collected {
  readonly sums: Buffer;
  readonly counts: number[];
  readonly pair: number[];
  readonly received: number[];
  readonly done: boolean;
}

const BY_HOSTS: (typeof WAYS)[number] = {
  name: 'tcp between two hosts of two',
  transport: 'tcp',
  env: {},
  hosts: [
    [0, 1],
    [2, 3],
  ],
};

for (const way of [...WAYS, BY_HOSTS]) {
  const { name, transport, env } = way;
  test.serial(`operations of several kinds at once agree among four processes over ${name}`, async (t) => {
    const { server, workers, exits, end } = await startRun(wayOptions(way, 4), {}, { env });
    const infos = await server.ready();
    t.deepEqual(
      infos.map(({ rank, pid }) => [rank, pid]),
      workers.map(({ pid }, rank) => [rank, pid]),
    );
    t.true(infos.every((info) => info.endpoint.startsWith(transport)));
    // Not a multiple of a block, and several chunks a slice.
    const length = 2_200_001;
    const results = await server.callAll<Collected>('collect', { length });
    const expected = new Float32Array(length);
    for (let i = 0; i < length; i++) {
      const [a, b, c, d] = [0, 1, 2, 3].map((r) => Math.fround(Math.sin(i * 12.9898 + r) * 10 ** (i % 5)));
      expected[i] = Math.fround(a! + b!) + Math.fround(c! + d!);
    }
    for (const [rank, result] of results.entries()) {
      t.true(result.sums.equals(Buffer.from(expected.buffer)));
      t.deepEqual(
        result.counts,
        [0, 1, 2, 3].flatMap((r) => [r, r, r, r]),
      );
      t.deepEqual(result.pair, new Array(3).fill(rank < 2 ? 3 : 7));
      t.deepEqual(result.received, [0, 1, 2, 3]);
      t.true(result.done);
    }
    await server.callAll('stop', {}, { kind: 'stop' });
    t.deepEqual(await Promise.all(exits), [0, 0, 0, 0]);
    await end();
  });
}

test('a record tells of each operation when it was launched, when all were there, and when it ended', async (t) => {
  const { server, exits, end } = await startRun({ worldSize: 2 });
  await server.ready();
  const records = await server.callAll<OperationRecord & { after: boolean }>('watch', {});
  for (const { operations, waits, after } of records) {
    t.deepEqual(
      operations.map(({ name, bytes, group }) => [name, bytes, group]),
      [
        ['allToAll', 40, [0, 1]],
        ['allReduce', 400_000, [0, 1]],
      ],
    );
    for (const { launched, begun, ended } of operations) {
      t.true(launched <= ended && begun <= ended && Number.isFinite(ended));
    }
    t.true(waits.some(({ operation }) => operation === 'allReduce'));
    t.true(waits.every(({ start, begun, end }) => start <= begun && begun <= end));
    t.true(after);
  }
  await server.callAll('stop', {}, { kind: 'stop' });
  await Promise.all(exits);
  await end();
});

test('a worker alone needs nobody', async (t) => {
  const { server, exits, end } = await startRun({ worldSize: 1 });
  await server.ready();
  t.deepEqual(await server.callAll('meet', { absent: 1 }), ['met']);
  await server.callAll('stop', {}, { kind: 'stop' });
  t.deepEqual(await Promise.all(exits), [0]);
  await end();
});

test('closing ends the wait for workers that have not come, and later calls fail at once', async (t) => {
  const waiting = await ControlServer.listen({ worldSize: 1 });
  const come = failureOf(waiting.ready());
  await waiting.close();
  t.regex((await come).message, /closed its connections/);

  const { server, end } = await startRun({ worldSize: 1 }, {}, { markLost: false });
  await server.ready();
  await end();
  const refused = await failureOf(server.callAll('meet', { absent: 1 }));
  t.regex(refused.message, /closed its connections/);
});

test('a worker that does not come to a collective is named, with the operation', async (t) => {
  const { server, end } = await startRun({ worldSize: 2 }, { collectiveMs: 500 });
  await server.ready();
  const error = await failureOf(server.callAll('meet', { absent: 1 }));
  t.is(error.code, 'SLUICE_E_COLLECTIVE_TIMEOUT');
  t.regex(error.message, /Rank 0 waited 0\.5 s in barrier 0 of group \[0, 1\] for rank 1/);
  t.deepEqual(error.details.waitingFor, [1]);
  await end();
});

test.serial('errors of workers arrive with their code, and serving goes on', async (t) => {
  const { server, end } = await startRun({ worldSize: 2 });
  await server.ready();
  const coded = await failureOf(server.callAll('fail', { culprit: 1 }));
  t.is(coded.code, 'SLUICE_E_DISK_FULL');
  t.is(coded.message, 'Rank 1 has no space left.');
  t.deepEqual(coded.details, { path: '/x', failedRanks: [1] }, 'the other did not fail');
  const uncoded = await failureOf(server.callAll('crash', { culprit: 0 }));
  t.is(uncoded.code, 'SLUICE_E_WORKER_FAILED');
  t.is(uncoded.message, 'Rank 0 failed in crash: x is not a function');
  t.regex(String(uncoded.details.stack), /at crash .*worker\.js/);
  const unknown = await failureOf(server.callAll('dance', {}));
  t.is(unknown.message, 'Workers have no method dance.');
  t.deepEqual(unknown.details, {}, 'all failed');
  t.deepEqual(await server.callAll('who', {}), [
    { rank: 0, size: 2 },
    { rank: 1, size: 2 },
  ]);
  await end();
});

test('a call that is not answered in time names the rank, the method and what it was doing', async (t) => {
  const { server, end } = await startRun({ worldSize: 2 });
  await server.ready();
  const error = await failureOf(server.callAll('spin', { culprit: 1 }, { kind: 'save', limitMs: 2500 }));
  t.is(error.code, 'SLUICE_E_WORKER_TIMEOUT');
  t.is(error.message, 'No answer to spin within 2.5 s (limit of save) from rank 1 (counting sheep).');
  await end();
});

test('a killed worker fails the call, and the collectives of the others, at once', async (t) => {
  const { server, workers, exits, end } = await startRun({ worldSize: 3 });
  await server.ready();
  const call = failureOf(server.callAll('meet', { absent: 1 }));
  await new Promise((resolve) => setTimeout(resolve, 100));
  workers[1]!.kill('SIGKILL');
  const lost = await server.lost;
  t.is(lost.code, 'SLUICE_E_WORKER_LOST');
  t.regex(lost.message, /rank 1 is lost: it ended with SIGKILL/);
  // The others sat in a barrier without a time-out of their own: their thread tells them why it will not end.
  const error = await call;
  t.is(error.code, 'SLUICE_E_WORKER_LOST');
  t.is((await failureOf(server.callAll('who', {}))).code, 'SLUICE_E_WORKER_LOST');
  t.is(await exits[1], 'SIGKILL');
  await end();
});

test('a worker that exits says goodbye, with its exit code, and does not crash', async (t) => {
  const { server, exits, end } = await startRun({ worldSize: 2 }, {}, { markLost: false });
  await server.ready();
  const error = await failureOf(server.callAll('exit', { culprit: 1 }));
  t.is(error.code, 'SLUICE_E_WORKER_LOST');
  t.regex(error.message, /rank 1 is lost: it left: its process ended with code 7/);
  t.is(await exits[1], 7);
  await end();
});

test('a worker whose machine falls silent is lost after a while', async (t) => {
  const server = await ControlServer.listen({ worldSize: 1, heartbeatSilenceMs: 2000 });
  const worker = new Dealer({ linger: 0 });
  worker.connect(server.endpoint);
  const hello = { token: server.token, rank: 0, host: 'elsewhere', pid: 1, endpoint: 'tcp://127.0.0.1:1' };
  await worker.send(new Packr({ useRecords: false }).pack([PROTOCOL_VERSION, 'hello', hello]));
  const error = await server.lost;
  t.regex(error.message, /rank 0 is lost: no heartbeat for \d+ s/);
  worker.close();
  await server.close();
});

for (const stopped of [[0], [0, 1]]) {
  test.serial(
    `workers ${stopped} that are suspended for longer than silence may last go on afterwards`,
    async (t) => {
      const limits = { coordinatorSilenceMs: 1000 };
      const { server, workers, end } = await startRun({ worldSize: 2, heartbeatSilenceMs: 1000 }, limits, {
        remote: true,
      });
      await server.ready();
      for (const rank of stopped) workers[rank]!.kill('SIGSTOP');
      await delay(4000);
      for (const rank of stopped) workers[rank]!.kill('SIGCONT');
      t.is((await server.callAll('meet', { absent: 2 })).length, 2);
      await end();
    },
  );
}

// Serial, since it blocks all others.
test.serial('workers outlast the silence of a coordinator whose process is there', async (t) => {
  const { server, end } = await startRun({ worldSize: 1 }, { coordinatorSilenceMs: 1000 });
  await server.ready();
  // As one that is stopped: it neither hears nor says anything.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 4000);
  t.deepEqual(await server.callAll('who', {}), [{ rank: 0, size: 1 }]);
  await end();
});

test('workers without a coordinator end, even while their main thread never returns and nobody hears why', async (t) => {
  const limits = { coordinatorSilenceMs: 2000 };
  const { server, exits, end } = await startRun({ worldSize: 2 }, limits, {
    remote: true,
    isUnheard: true,
  });
  await server.ready();
  void server.callAll('spin', { culprit: 0 }).catch(() => {});
  await new Promise((resolve) => setTimeout(resolve, 100));
  await server.close();
  t.deepEqual(await Promise.all(exits), ['SIGKILL', 'SIGKILL']);
  await end();
});

test('workers that do not start in time are named', async (t) => {
  const server = await ControlServer.listen({ worldSize: 2 });
  const error = await failureOf(server.ready(50));
  t.is(error.code, 'SLUICE_E_WORKER_TIMEOUT');
  t.regex(error.message, /ranks 0, 1 of 2 did not come/);
  await server.close();
});

test.serial('an address that is taken is refused with a code', async (t) => {
  for (const endpoint of ['tcp://127.0.0.1:0', undefined]) {
    const first = await ControlServer.listen({ worldSize: 1, ...(endpoint && { endpoint }) });
    const error = await failureOf(ControlServer.listen({ worldSize: 1, endpoint: first.endpoint }));
    t.is(error.code, 'SLUICE_E_PORT_TAKEN');
    t.true(error.message.includes(first.endpoint));
    await first.close();
  }
});

test.serial('a process of another version is refused, with both versions', async (t) => {
  const server = await ControlServer.listen({ worldSize: 1 });
  const stranger = new Dealer({ linger: 0 });
  stranger.connect(server.endpoint);
  await stranger.send(new Packr({ useRecords: false }).pack([99, 'hello', {}]));
  const [answer] = await stranger.receive();
  const [, kind, body] = new Packr({ useRecords: false }).unpack(answer!);
  t.is(kind, 'refused');
  t.is(body.error.code, 'SLUICE_E_PROTOCOL_VERSION');
  t.regex(body.error.message, new RegExp(`version 99 .* version ${PROTOCOL_VERSION}`));
  stranger.close();
  await server.close();
});

test.serial('whoever lacks the secret of the run, or sends rubbish, gets no answer', async (t) => {
  const server = await ControlServer.listen({ worldSize: 1, endpoint: 'tcp://127.0.0.1:0' });
  const stranger = new Dealer({ linger: 0, receiveTimeout: 300 });
  stranger.connect(server.endpoint);
  const pack = (message: unknown) => new Packr({ useRecords: false }).pack(message);
  const hello = { token: 'guess', rank: 0, host: 'h', pid: 1, endpoint: 'tcp://127.0.0.1:1' };
  await stranger.send(pack([PROTOCOL_VERSION, 'hello', hello]));
  await stranger.send(pack([PROTOCOL_VERSION, 'result', { id: 1, value: 0 }]));
  await stranger.send(Buffer.from([0xc1, 0xff, 0x00]));
  await stranger.send(pack('hello'));
  const raw = connect(Number(server.endpoint.split(':').pop()), '127.0.0.1');
  raw.on('error', () => {});
  raw.write('GET / HTTP/1.1\r\n\r\n');
  await t.throwsAsync(stranger.receive());
  t.is(server.activity(0), 'not started');
  raw.destroy();
  stranger.close();
  await server.close();
});

for (const protection of ['encrypted', 'authenticated'] as const) {
  test.serial(
    `with cluster keys, connections over tcp are ${protection} and workers agree as ever`,
    async (t) => {
      const { server, exits, end } = await startRun({
        ...{ worldSize: 2, transport: 'tcp', endpoint: 'tcp://127.0.0.1:0' },
        ...{ curve: generateCurveKeys(), protection },
      });
      t.teardown(end);
      await server.ready();
      // Parts that are longer than the largest payload of a message.
      const [first, second] = await server.callAll<Collected>('collect', { length: 900_000 });
      t.true(first!.sums.equals(second!.sums));
      t.deepEqual(first!.pair, [3, 3, 3]);
      await server.callAll('stop', {}, { kind: 'stop' });
      t.deepEqual(await Promise.all(exits), [0, 0]);
    },
  );
}

test.serial('a stranger without the cluster key cannot even speak, whatever else it knows', async (t) => {
  const curve = generateCurveKeys();
  const server = await ControlServer.listen({ worldSize: 1, endpoint: 'tcp://127.0.0.1:0', curve });
  const { publicKey } = curve;
  const foreign = generateCurveKeys();
  const strangers = {
    'no keys': {},
    'other keys, and the public key of the cluster': {
      curveServerKey: publicKey,
      curvePublicKey: foreign.publicKey,
      curveSecretKey: foreign.secretKey,
    },
    'a forged pair': {
      curveServerKey: publicKey,
      curvePublicKey: publicKey,
      curveSecretKey: foreign.secretKey,
    },
  };
  // Of a version that would be refused, with an answer, if it were heard.
  const frame = new Packr({ useRecords: false }).pack([99, 'hello', {}]);
  for (const [name, keys] of Object.entries(strangers)) {
    const stranger = new Dealer({ ...keys, linger: 0, receiveTimeout: 400 });
    stranger.connect(server.endpoint);
    await stranger.send(frame);
    await t.throwsAsync(stranger.receive(), undefined, name);
    stranger.close();
  }
  const member = new Dealer({
    curveServerKey: publicKey,
    curvePublicKey: publicKey,
    curveSecretKey: curve.secretKey,
    linger: 0,
  });
  member.connect(server.endpoint);
  await member.send(frame);
  t.is((await member.receive()).length, 1);
  member.close();
  await server.close();
});

test('workers that reach the coordinator, and not each other, are told pair by pair', async (t) => {
  // Of the range for documentation (RFC 5737): no machine has it.
  const { server, end } = await startRun(
    { worldSize: 3, transport: 'tcp', endpoint: 'tcp://127.0.0.1:0' },
    { reachMs: 3000 },
    { addresses: ['127.0.0.1', '203.0.113.77', '127.0.0.1'] },
  );
  t.teardown(end);
  const error = await failureOf(server.ready());
  t.is(error.code, 'SLUICE_E_HOSTS_APART');
  t.deepEqual([...(error.details.pairs as [number, number][])].sort(), [
    [0, 1],
    [2, 1],
  ]);
});

test('workers of one host need no network for each other', async (t) => {
  // Of the range for documentation (RFC 5737): no machine has it, so nobody reaches ranks 0 and 1 by the network.
  const { server, exits, end } = await startRun(
    {
      ...{ worldSize: 2, transport: 'tcp', endpoint: 'tcp://127.0.0.1:0', curve: generateCurveKeys() },
      hosts: [[0, 1]],
    },
    { reachMs: 3000 },
    { addresses: ['203.0.113.77', '203.0.113.77'] },
  );
  t.teardown(end);
  const infos = await server.ready();
  t.true(infos.every(({ endpoint, near }) => endpoint.startsWith('tcp:') && near?.startsWith('ipc:')));
  const [first, second] = await server.callAll<Collected>('collect', { length: 900_000 });
  t.true(first!.sums.equals(second!.sums));
  t.deepEqual(first!.received, [0, 1]);
  t.deepEqual(await server.callAll('route', { rounds: 12 }), [0, 0]);
  await server.callAll('stop', {}, { kind: 'stop' });
  t.deepEqual(await Promise.all(exits), [0, 0]);
});

test('a host that others do not reach is told, and not that its own workers would not reach each other', async (t) => {
  const { server, end } = await startRun(
    { worldSize: 3, transport: 'tcp', endpoint: 'tcp://127.0.0.1:0', hosts: [[0, 1], [2]] },
    { reachMs: 3000 },
    { addresses: ['203.0.113.77', '203.0.113.77', '127.0.0.1'] },
  );
  t.teardown(end);
  const error = await failureOf(server.ready());
  t.is(error.code, 'SLUICE_E_HOSTS_APART');
  t.deepEqual([...(error.details.pairs as [number, number][])].sort(), [
    [2, 0],
    [2, 1],
  ]);
});

test('sockets that are removed before the workers have come together are told of at once', async (t) => {
  const server = await ControlServer.listen({ worldSize: 1 });
  t.teardown(() => server.close());
  const ready = failureOf(server.ready());
  rmSync(server.directory, { recursive: true });
  const { code, message } = await ready;
  t.is(code, 'SLUICE_E_TEMPORARY_DIRECTORY');
  t.true(message.includes(server.directory), message);
});

test('a worker that finds no coordinator says so', async (t) => {
  const error = await failureOf(
    Communicator.connect({
      coordinator: 'tcp://127.0.0.1:9',
      rank: 3,
      token: 'x',
      transport: 'ipc',
      limits: { connectMs: 200 },
    }),
  );
  t.is(error.code, 'SLUICE_E_WORKER_TIMEOUT');
  t.regex(error.message, /Rank 3 waited 0\.2 s for the coordinator at tcp:\/\/127\.0\.0\.1:9/);
});

test('what fails in the communication thread is a coded error of the worker', async (t) => {
  const router = new Router({ linger: 0 });
  await router.bind('tcp://127.0.0.1:*');
  const coordinator = router.lastEndpoint!;
  const joining = failureOf(Communicator.connect({ coordinator, rank: 0, token: 'x', transport: 'tcp' }));
  const [identity] = await router.receive();
  // An endpoint that no coordinator sends.
  const world = new Packr({ useRecords: false }).pack([PROTOCOL_VERSION, 'world', { endpoints: ['', 'x'] }]);
  await router.send([identity!, world]);
  const error = await joining;
  t.is(error.code, 'SLUICE_E_WORKER_FAILED');
  t.regex(error.message, /^communication thread: /);
  router.close();
});
