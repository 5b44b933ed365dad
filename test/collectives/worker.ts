/** A worker process for the tests of real processes: what it does is asked of it over the control plane. */

import {
  Communicator,
  consecutiveRanges,
  receiveInvitation,
  sharedFloat32,
  sharedInt32,
  type WorkerLimits,
} from '@sluice/collectives';
import { SluiceError } from '@sluice/core';

const limits = JSON.parse(process.env.TEST_LIMITS ?? '{}') as Partial<WorkerLimits>;
const communicator = await Communicator.connect({ ...(await receiveInvitation()), limits });
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
    const ones = consecutiveRanges(new Array<number>(size).fill(1));
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
  /**
   * Uneven all-to-alls in memory of any kind, many at once, some of more bytes than there is room for. Gives back how many
   * elements are not what their sender meant for this rank.
   */
  route({ rounds }: { rounds: number }) {
    const group = communicator.group(Array.from({ length: size }, (_, r) => r));
    const kinds = [Float32Array, Uint8Array, Float64Array, Int32Array];
    const count = (round: number, from: number, to: number) =>
      (round + from + 2 * to) % 3 === 0
        ? 0
        : ((round * 7 + from * 5 + to * 3) % 11) ** 4 * (round % 2 ? 1 : 23);
    const value = (round: number, from: number, to: number) => 1 + ((round * 31 + from * 7 + to) % 100);
    const ranks = Array.from({ length: size }, (_, r) => r);
    const launched = Array.from({ length: rounds }, (_, round) => {
      const Kind = kinds[round % kinds.length]!;
      const sendCounts = ranks.map((to) => count(round, rank, to));
      const receiveCounts = ranks.map((from) => count(round, from, rank));
      const total = (counts: number[]) => counts.reduce((a, b) => a + b, 0);
      const send = new Kind(total(sendCounts));
      const received = new Kind(total(receiveCounts));
      let start = 0;
      for (const [to, length] of sendCounts.entries()) {
        send.fill(value(round, rank, to), start, start + length);
        start += length;
      }
      return {
        round,
        received,
        receiveCounts,
        pending: group.allToAll(
          send,
          consecutiveRanges(sendCounts),
          received,
          consecutiveRanges(receiveCounts),
        ),
      };
    });
    // Those that wait for all the others first must still serve them.
    const barrier = group.barrier();
    if (rank % 2 === 0) barrier.wait();
    let wrong = 0;
    for (const { round, received, receiveCounts, pending } of launched.reverse()) {
      pending.wait();
      let start = 0;
      for (const [from, length] of receiveCounts.entries()) {
        for (let i = start; i < start + length; i++) if (received[i] !== value(round, from, rank)) wrong++;
        start += length;
      }
    }
    barrier.wait();
    return wrong;
  },
  /** The last rank sends to the first, which waits for the barrier before it waits for the bytes. */
  stream({ bytes }: { bytes: number }) {
    const last = size - 1;
    const none = consecutiveRanges(new Array<number>(size).fill(0));
    const all = (peer: number) =>
      consecutiveRanges(Array.from({ length: size }, (_, r) => (r === peer ? bytes : 0)));
    const send = new Uint8Array(rank === last ? bytes : 0).fill(7);
    const received = new Uint8Array(rank === 0 ? bytes : 0);
    const pending = world.allToAll(
      send,
      rank === last ? all(0) : none,
      received,
      rank === 0 ? all(last) : none,
    );
    if (rank === last) pending.wait();
    world.barrier().wait();
    pending.wait();
    return received.every((byte) => byte === 7);
  },
  /** Only some ranks come to the all-to-all; the others compute. */
  trade({ absent, rows = 9 }: { absent: number; rows?: number }) {
    communicator.progress('trading');
    const counts = consecutiveRanges(new Array<number>(size).fill(1));
    world.allToAll(new Float32Array(size), counts, new Float32Array(size), counts).wait();
    if (rank === absent) return 'absent';
    const more = consecutiveRanges(new Array<number>(size).fill(rows + rank));
    const send = new Float32Array(size * (rows + rank));
    world.allToAll(send, more, new Float32Array(send.length), more).wait();
    return 'traded';
  },
  /** How long each rank was blocked in an all-to-all and in an all-reduce that the last rank came late to, s. */
  late({ delayMs }: { delayMs: number }) {
    const counts = consecutiveRanges(new Array<number>(size).fill(1000));
    const trade = () =>
      world.allToAll(new Float32Array(1000 * size), counts, new Float32Array(1000 * size), counts);
    trade().wait();
    return [trade, () => world.allReduce(sharedFloat32(100_000))].map((launch) => {
      world.barrier().wait();
      const { waiting, moving } = communicator.blocked;
      if (rank === size - 1) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, delayMs);
      launch().wait();
      return {
        waiting: communicator.blocked.waiting - waiting,
        moving: communicator.blocked.moving - moving,
      };
    });
  },
  /** What is recorded of an all-to-all and an all-reduce. */
  async watch() {
    const counts = consecutiveRanges(new Array<number>(size).fill(10));
    const trade = () =>
      world.allToAll(new Float32Array(10 * size), counts, new Float32Array(10 * size), counts);
    trade().wait();
    const finish = communicator.record();
    trade().wait();
    world.allReduce(sharedFloat32(100_000)).wait();
    const record = finish();
    trade().wait();
    return { ...record, after: communicator.blocked.record === undefined };
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
