import test from 'ava';
import { failureOf } from '../support/failureOf.ts';
import { startRun, WAYS, wayOptions } from './support/startRun.ts';

for (const way of WAYS) {
  const { name, env } = way;
  test.serial(`all-to-alls of any size, memory and number agree among processes over ${name}`, async (t) => {
    for (const worldSize of [2, 4]) {
      const { server, end } = await startRun(wayOptions(way, worldSize), {}, { env });
      await server.ready();
      t.deepEqual(await server.callAll('route', { rounds: 12 }), new Array(worldSize).fill(0));
      await end();
    }
  });

  test.serial(`waiting for a late rank is told apart from moving bytes over ${name}`, async (t) => {
    const { server, end } = await startRun(wayOptions(way, 2), {}, { env });
    await server.ready();
    type Blocked = { waiting: number; moving: number };
    const [patient, late] = await server.callAll<Blocked[]>('late', { delayMs: 400 });
    for (const [i, { waiting }] of patient!.entries()) {
      // Whatever the machine does, the one that comes last waits for nobody for as long.
      t.true(waiting > 0.2, `${waiting}`);
      t.true(late![i]!.waiting < waiting);
    }
    await end();
  });

  test.serial(
    `who does not come to an all-to-all is named, and killed ones are missed over ${name}`,
    async (t) => {
      const options = wayOptions(way, 2);
      const timed = await startRun(options, { collectiveMs: 1500 }, { env });
      await timed.server.ready();
      const late = await failureOf(timed.server.callAll('trade', { absent: 1 }));
      t.is(late.code, 'SLUICE_E_COLLECTIVE_TIMEOUT');
      t.regex(
        late.message,
        /Rank 0 waited 1\.5 s in allToAll \d+ of group \[0, 1\] for rank 1 \(0 of 36 bytes came from it\)/,
      );
      t.deepEqual(late.details.waitingFor, [1]);
      await timed.end();

      const { server, workers, end } = await startRun(options, {}, { env });
      await server.ready();
      const call = failureOf(server.callAll('trade', { absent: 1 }));
      while (!server.activity(0).includes('under way: allToAll')) await new Promise((r) => setTimeout(r, 50));
      workers[1]!.kill('SIGKILL');
      t.is((await call).code, 'SLUICE_E_WORKER_LOST');
      await end();
    },
  );

  test.serial(`ranks that disagree about an all-to-all are told so over ${name}`, async (t) => {
    const { server, end } = await startRun(wayOptions(way, 2), {}, { env });
    await server.ready();
    const error = await failureOf(server.callAll('trade', { absent: -1 }));
    t.is(error.code, 'SLUICE_E_COLLECTIVE_MISMATCH');
    t.regex(error.message, /allToAll .*of (36|40) bytes/);
    await end();
  });
}

test.serial(
  'a rank that waits for something else takes what comes, for its peer cannot go on before',
  async (t) => {
    // Many times what a channel holds: a look now and then would not do within the limit.
    const { server, end } = await startRun({ worldSize: 2 }, { collectiveMs: 5000 });
    await server.ready();
    t.deepEqual(await server.callAll('stream', { bytes: 64 << 20 }), [true, true]);
    await end();
  },
);
