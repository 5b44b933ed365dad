/** Workers whose emulated GPUs send each other their memory, by the emulator's NCCL: what arrives is what goes by way of the host. */

import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { ControlServer } from '@sluice/collectives';
import test, { type ExecutionContext } from 'ava';
import { obstacleIn } from '../../packages/train/src/linkDevices.ts';
import type { Compared, ExpertsRequest, FlatRequest } from './linkWorker.ts';
import { startWorkers } from './support/workers.ts';

process.env.SLUICE_CUDA = 'emulated';

const start = (t: ExecutionContext, size: number, hosts?: readonly (readonly number[])[]) =>
  startWorkers(
    t,
    fileURLToPath(new URL('./linkWorker.ts', import.meta.url)),
    size,
    hosts ? 'tcp' : 'ipc',
    hosts,
  );

/**
 * @param phases of an operation, of each of which NCCL hears once
 * @returns bytes that each rank's device sent to each other's
 */
async function sameFlat(
  t: ExecutionContext,
  server: ControlServer,
  request: FlatRequest,
  phases = 1,
): Promise<number[][]> {
  const answers = await server.callAll<Compared & { groups: number; sentTo: number[] }>('flat', request);
  const stages = (request.times * (request.times + 1)) / 2;
  // As floats and rounded.
  const length = 2 * stages * request.lengths.reduce((sum, each) => sum + each, 0);
  t.deepEqual(
    answers.map(({ sentTo: _, ...rest }) => rest),
    answers.map(() => ({ lengths: [length, length], different: null, groups: 3 * phases * request.times })),
  );
  return answers.map(({ sentTo }) => sentTo);
}

test.serial(
  'four workers: sums and gathers of any groups and slices, rounded ones too, and experts that they share, have the bits of the host',
  async (t) => {
    const server = await start(t, 4);
    t.deepEqual(await server.callAll('link', {}), new Array(4).fill('by NCCL 2.32.3'));
    const world = [[0, 1, 2, 3]];
    const lengths = [1000, 0, 37, 2048];
    for (const wire of ['float32', 'bfloat16'] as const) {
      await sameFlat(t, server, { groups: world, lengths, wire, times: 3 });
      await sameFlat(t, server, {
        groups: [
          [0, 1],
          [2, 3],
        ],
        lengths: [5000, 3],
        wire,
        times: 2,
      });
    }
    await sameFlat(t, server, {
      groups: [
        [0, 2],
        [1, 3],
      ],
      lengths: [16, 16],
      wire: 'float32',
      times: 1,
    });

    // Workers without own rows, without rows of others, without any; experts without rows.
    const counts = [
      [2, 1, 0, 0, 5, 0, 0, 1],
      [0, 0, 0, 0, 0, 0, 0, 0],
      [1, 0, 3, 0, 0, 0, 0, 70],
      [0, 0, 4, 2, 1, 0, 1, 1],
    ];
    for (const [precision, channels] of [
      ['bf16', 8],
      ['f32', 5],
    ] as const) {
      const request: ExpertsRequest = { counts, channels, precision };
      // There and back, twice; the host reads the result, the loss, and three gradients.
      const same = { byDevices: true, byHost: true, groups: 4, waits: 5 };
      t.deepEqual(await server.callAll('experts', request), new Array(4).fill(same));
    }
  },
);

test.serial(
  'workers of two hosts: sums and gatherings go by hosts, with the bits of the host, and short ones at once to all',
  async (t) => {
    const server = await start(t, 4, [
      [0, 1],
      [2, 3],
    ]);
    await server.callAll('link', {});
    const groups = [[0, 1, 2, 3]];
    const lengths = [9000, 4000, 0, 20_480];
    const [elements, own] = [33_480, 4 * 9000];
    const bytes = { float32: 4, bfloat16: 2 };
    for (const wire of ['float32', 'bfloat16'] as const) {
      const [first] = await sameFlat(t, server, { groups, lengths, wire, times: 1 }, 2);
      // The first gets sums of what is its own and its counterpart's, which is empty, and gathers what is its counterpart's; of what is rounded
      // half as many bytes.
      const [sums, gathered] = [bytes[wire] * (4000 + 20_480), own + own / 2];
      t.deepEqual(first, [0, sums + gathered, gathered, 0], wire);
      await sameFlat(t, server, { groups, lengths, wire, times: 3 }, 2);
    }
    t.true(4 * elements > 1 << 16);
    const [short] = await sameFlat(t, server, {
      groups,
      lengths: [16, 16, 16, 16],
      wire: 'float32',
      times: 1,
    });
    t.deepEqual(short, [0, 160, 160, 160]);
  },
);

test.serial(
  'when a worker is lost, the others end their wait for its device, and the link with it',
  async (t) => {
    const server = await start(t, 2);
    await server.callAll('link', {});
    const answers = server.callAll('withoutOne', { absent: 1, dies: true });
    // NCCL finds the connection broken before the coordinator tells why.
    await setTimeout(600);
    server.markLost(1, 'it was killed');
    const lost = 'SLUICE_E_WORKER_LOST';
    t.deepEqual(await answers, [{ errors: [lost, lost], aborts: 1 }, null]);
  },
);

test.serial(
  'a worker that never comes to an operation of its device is waited for as long as any is',
  async (t) => {
    process.env.TEST_LIMITS = JSON.stringify({ collectiveMs: 3000 });
    const server = await start(t, 2);
    delete process.env.TEST_LIMITS;
    await server.callAll('link', {});
    const late = 'SLUICE_E_COLLECTIVE_TIMEOUT';
    const answers = await server.callAll('withoutOne', { absent: 1, dies: false });
    t.deepEqual(answers, [{ errors: [late, late], aborts: 1 }, null]);
  },
);

test('devices are linked where all have the same NCCL and a device of their own', (t) => {
  const end = (version: number, device: number) => Int32Array.of(version, device, 0, 0, 0);
  const obstacle = (...ends: Int32Array[]) => obstacleIn(ends, (version) => `version ${version}`);
  t.is(obstacle(end(2, 1), end(2, 2)), undefined);
  t.is(obstacle(end(2, 1), end(0, 0)), 'rank 1 cannot send otherwise');
  t.is(obstacle(end(2, 1), end(2, 2), end(3, 3)), 'rank 0 has version 2, and rank 2 has version 3');
  t.is(obstacle(end(2, 1), end(2, 2), end(2, 1)), 'ranks 0 and 2 compute on the same device');
});
