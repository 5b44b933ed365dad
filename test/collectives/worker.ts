/** A worker process for the tests of real processes: what it does is asked of it over the control plane. */

import { Communicator, sharedFloat32, sharedInt32, type WorkerLimits } from '@sluice/collectives';
import { SluiceError } from '@sluice/core';

const limits = JSON.parse(process.env.TEST_LIMITS ?? '{}') as Partial<WorkerLimits>;
const communicator = await Communicator.connect({ limits });
const { rank, size, world } = communicator;

await communicator.serve({
  who: () => ({ rank, size }),
  /** Several operations at once, among them one of a sub-group; gives back bytes that must agree. */
  collect({ length }: { length: number }) {
    const sums = sharedFloat32(length);
    for (let i = 0; i < length; i++) sums[i] = Math.sin(i * 12.9898 + rank) * 10 ** (i % 5);
    const counts = sharedInt32(size * size);
    counts.fill(rank, rank * size, (rank + 1) * size);
    const pendings = [
      world.allReduce(sums),
      world.allGather(
        counts,
        Array.from({ length: size }, (_, r) => ({ start: r * size, end: (r + 1) * size })),
      ),
    ];
    const pair = communicator.group([rank - (rank % 2), rank - (rank % 2) + 1]);
    const small = sharedFloat32(3).fill(rank + 1);
    pendings.push(pair.allReduce(small));
    const send = sharedInt32(size).fill(rank);
    const received = sharedInt32(size);
    const ones = new Array<number>(size).fill(1);
    pendings.push(world.allToAll(send, ones, received, ones));
    for (const pending of pendings) pending.wait();
    return {
      sums: Buffer.from(sums.slice().buffer),
      counts: [...counts],
      pair: [...small],
      received: [...received],
      done: pendings.every((pending) => pending.done),
    };
  },
  /** Only some ranks come to the barrier. */
  meet({ absent }: { absent: number }) {
    communicator.progress(`meeting without rank ${absent}`);
    if (rank === absent) return 'absent';
    world.barrier().wait();
    return 'met';
  },
  fail({ culprit }: { culprit: number }) {
    if (rank === culprit) {
      throw new SluiceError('SLUICE_E_DISK_FULL', `Rank ${rank} has no space left.`, {
        details: { path: '/x' },
      });
    }
    return 'well';
  },
  crash({ culprit }: { culprit: number }) {
    if (rank === culprit) throw new TypeError('x is not a function');
  },
  /** The main thread never comes back. */
  spin({ culprit }: { culprit: number }) {
    communicator.progress('counting sheep');
    while (rank === culprit);
  },
  exit({ culprit }: { culprit: number }) {
    if (rank === culprit) process.exit(7);
    world.barrier().wait();
  },
});
await communicator.close();
