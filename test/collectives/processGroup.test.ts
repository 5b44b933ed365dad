import {
  type CollectiveArray,
  consecutiveRanges,
  type ElementRange,
  Exchange,
  type Faults,
  FaultyTransport,
  inProcessWorld,
  ProcessGroup,
} from '@sluice/collectives';
import type { SluiceError } from '@sluice/core';
import { roundToBfloat16, sumTreeBfloat16 } from '@sluice/engine';
import test from 'ava';
import fc from 'fast-check';

/** Small chunks, so that small buffers go through all that large ones do. */
const CHUNK_BYTES = 1 << 12;

const CONSTRUCTORS = { Float32Array, Float64Array, Int32Array, Uint8Array };
type TypeName = keyof typeof CONSTRUCTORS;

const anyType = fc.constantFrom<TypeName>('Float32Array', 'Float64Array', 'Int32Array', 'Uint8Array');
const anyWorld = fc.integer({ min: 1, max: 5 });
/** Sizes around nothing, around a block, and beyond what is sent without asking. */
const anyLength = fc.oneof(
  fc.constantFrom(0, 1, 4095, 4096, 4097),
  fc.integer({ min: 0, max: 100 }),
  fc.integer({ min: 0, max: 40_000 }),
);

interface World {
  readonly groups: ProcessGroup[];
  readonly exchanges: Exchange[];
  close(): Promise<void>;
}

function openWorld(size: number, faults?: Faults, limitMs = 20_000): World {
  const exchanges = inProcessWorld(size, CHUNK_BYTES).map(
    (transport) => new Exchange(faults === undefined ? transport : new FaultyTransport(transport, faults)),
  );
  const ranks = exchanges.map((_, rank) => rank);
  return {
    exchanges,
    groups: exchanges.map((exchange) => new ProcessGroup(exchange, ranks, { limitMs })),
    close: async () => {
      await Promise.all(exchanges.map((exchange) => exchange.close()));
    },
  };
}

function values(type: TypeName, length: number, rank: number): CollectiveArray {
  const array = new CONSTRUCTORS[type](length);
  for (let i = 0; i < length; i++) {
    const noise = Math.sin(1 + i * 12.9898 + rank * 78.233) * 43758.5453;
    array[i] = type.startsWith('Float') ? noise * 10 ** ((i + rank) % 7) : Math.round(noise);
  }
  return array;
}

/** ((r0 + r1) + (r2 + r3)) + …, one level at a time, in the arrays' own precision. */
function treeSum(parts: CollectiveArray[]): CollectiveArray {
  let level: CollectiveArray[] = parts.map((part) => part.slice());
  while (level.length > 1) {
    const next: CollectiveArray[] = [];
    for (let i = 0; i < level.length; i += 2) {
      const [left, right] = [level[i]!, level[i + 1]];
      if (right !== undefined) for (let j = 0; j < left.length; j++) left[j] = left[j]! + right[j]!;
      next.push(left);
    }
    level = next;
  }
  return level[0]!;
}

function bytes(array: CollectiveArray): Buffer {
  return Buffer.from(array.buffer, array.byteOffset, array.byteLength);
}

/** Ranges that cover `length` in order, cut at random places, possibly empty. */
function cut(length: number, size: number, cuts: readonly number[]): ElementRange[] {
  const edges = [0, ...cuts.slice(0, size - 1).map((c) => c % (length + 1)), length].sort((a, b) => a - b);
  return Array.from({ length: size }, (_, i) => ({ start: edges[i]!, end: edges[i + 1]! }));
}

const anyCuts = fc.array(fc.nat(), { minLength: 5, maxLength: 5 });

test('a few numbers do not wait behind a long operation that was launched before', async (t) => {
  const { groups, close } = openWorld(2);
  let isOver = false;
  const long = groups.map((group) => group.broadcast(new Float32Array(1 << 18), 0));
  void Promise.all(long).then(() => {
    isOver = true;
  });
  // Until the receiver has said that there is room.
  for (let turn = 0; turn < 10; turn++) await new Promise(setImmediate);
  await Promise.all(groups.map((group) => group.allReduce(new Float32Array(4))));
  t.false(isOver);
  await Promise.all(long);
  await close();
});

test('all-reduce gives every rank the sum in tree order, bit for bit', async (t) => {
  await fc.assert(
    fc.asyncProperty(anyWorld, anyType, anyLength, async (size, type, length) => {
      const world = openWorld(size);
      const buffers = world.groups.map((group) => values(type, length, group.rank));
      const expected = treeSum(buffers);
      await Promise.all(world.groups.map((group, rank) => group.allReduce(buffers[rank]!)));
      await world.close();
      for (const buffer of buffers) t.true(bytes(buffer).equals(bytes(expected)));
    }),
    { numRuns: 60 },
  );
});

test('two ranks have the same sums whether they go at once or by slices', async (t) => {
  const world = openWorld(2);
  // Up to 1 MiB at once; the second time the memory of the first is used again.
  for (const length of [2 ** 18, 2 ** 18, 2 ** 18 + 1]) {
    const buffers = [0, 1].map((rank) => values('Float32Array', length, rank));
    const expected = treeSum(buffers);
    await Promise.all(world.groups.map((group, rank) => group.allReduce(buffers[rank]!)));
    for (const buffer of buffers) t.true(bytes(buffer).equals(bytes(expected)), `${length}`);
  }
  await world.close();
});

test('reduce-scatter sums the own range, uneven or empty, and leaves the rest as it was', async (t) => {
  await fc.assert(
    fc.asyncProperty(anyWorld, anyType, anyLength, anyCuts, async (size, type, length, cuts) => {
      const world = openWorld(size);
      const ranges = cut(length, size, cuts);
      const buffers = world.groups.map((group) => values(type, length, group.rank));
      const sum = treeSum(buffers);
      const expected = buffers.map((buffer, rank) => {
        const { start, end } = ranges[rank]!;
        const copy = buffer.slice();
        copy.set(sum.subarray(start, end), start);
        return copy;
      });
      await Promise.all(world.groups.map((group, rank) => group.reduceScatter(buffers[rank]!, ranges)));
      await world.close();
      for (const [rank, buffer] of buffers.entries()) t.true(bytes(buffer).equals(bytes(expected[rank]!)));
    }),
    { numRuns: 60 },
  );
});

test('a reduce-scatter of floats that travel as bfloat16 rounds whatever two partial sums it adds', async (t) => {
  const rounded = (values: Float32Array) => {
    const halves = new Uint16Array(values.length);
    roundToBfloat16(values, halves);
    return halves;
  };
  await fc.assert(
    fc.asyncProperty(anyWorld, anyLength, anyCuts, fc.nat(), async (size, length, cuts, seed) => {
      const world = openWorld(size, { seed, maxDelayMs: 1, duplicate: 0.05 });
      const ranges = cut(length, size, cuts);
      const buffers = world.groups.map(({ rank }) => values('Float32Array', length, rank) as Float32Array);
      const sum = buffers[0]!.slice();
      if (size > 1) sumTreeBfloat16(sum, buffers.map(rounded));
      const expected = buffers.map((buffer, rank) => {
        const { start, end } = ranges[rank]!;
        const copy = buffer.slice();
        copy.set(sum.subarray(start, end), start);
        return copy;
      });
      // Twice, since the memory in which rounded values wait is used again.
      const again = buffers.map((buffer) => buffer.slice());
      const reduce = (of: Float32Array[]) =>
        Promise.all(world.groups.map((group, rank) => group.reduceScatter(of[rank]!, ranges, 'bfloat16')));
      await reduce(buffers);
      await reduce(again);
      await world.close();
      for (const some of [buffers, again]) {
        for (const [rank, buffer] of some.entries()) t.true(bytes(buffer).equals(bytes(expected[rank]!)));
      }
    }),
    { numRuns: 40 },
  );
});

test('all-gather fills every range with what its owner has there', async (t) => {
  await fc.assert(
    fc.asyncProperty(anyWorld, anyType, anyLength, anyCuts, async (size, type, length, cuts) => {
      const world = openWorld(size);
      const ranges = cut(length, size, cuts);
      const buffers = world.groups.map((group) => values(type, length, group.rank));
      const expected = buffers[0]!.slice();
      for (const [rank, { start, end }] of ranges.entries()) {
        expected.set(buffers[rank]!.subarray(start, end), start);
      }
      await Promise.all(world.groups.map((group, rank) => group.allGather(buffers[rank]!, ranges)));
      await world.close();
      for (const buffer of buffers) t.true(bytes(buffer).equals(bytes(expected)));
    }),
    { numRuns: 60 },
  );
});

test('all-to-all exchanges uneven counts, zero included', async (t) => {
  const anyCounts = fc.array(fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 9000 })), {
    minLength: 25,
    maxLength: 25,
  });
  await fc.assert(
    fc.asyncProperty(anyWorld, anyType, anyCounts, async (size, type, flat) => {
      const world = openWorld(size);
      const count = (from: number, to: number) => flat[from * 5 + to]!;
      const all = world.groups.map((_, rank) => rank);
      const sends = all.map((from) => all.map((to) => values(type, count(from, to), from * 5 + to)));
      const received = await Promise.all(
        world.groups.map(async (group, rank) => {
          const sendCounts = all.map((to) => count(rank, to));
          const receiveCounts = all.map((from) => count(from, rank));
          const send = new CONSTRUCTORS[type](sendCounts.reduce((a, b) => a + b, 0));
          let at = 0;
          for (const part of sends[rank]!) {
            send.set(part, at);
            at += part.length;
          }
          const receive = new CONSTRUCTORS[type](receiveCounts.reduce((a, b) => a + b, 0));
          await group.allToAll(
            send,
            consecutiveRanges(sendCounts),
            receive,
            consecutiveRanges(receiveCounts),
          );
          return receive;
        }),
      );
      await world.close();
      for (const [rank, buffer] of received.entries()) {
        t.true(bytes(buffer).equals(Buffer.concat(sends.map((parts) => bytes(parts[rank]!)))));
      }
    }),
    { numRuns: 40 },
  );
});

test('broadcast copies the buffer of any root', async (t) => {
  await fc.assert(
    fc.asyncProperty(anyWorld, anyType, anyLength, fc.nat(), async (size, type, length, anyRoot) => {
      const world = openWorld(size);
      const root = anyRoot % size;
      const buffers = world.groups.map((group) => values(type, length, group.rank));
      const expected = buffers[root]!.slice();
      await Promise.all(world.groups.map((group, rank) => group.broadcast(buffers[rank]!, root)));
      await world.close();
      for (const buffer of buffers) t.true(bytes(buffer).equals(bytes(expected)));
    }),
    { numRuns: 40 },
  );
});

test('no rank passes a barrier before the last one has reached it', async (t) => {
  const world = openWorld(3);
  let passed = 0;
  const early = world.groups.slice(0, 2).map((group) => group.barrier().then(() => (passed += 1)));
  await new Promise((resolve) => setTimeout(resolve, 30));
  t.is(passed, 0);
  await Promise.all([...early, world.groups[2]!.barrier()]);
  t.is(passed, 2);
  await world.close();
});

test('delays, reordering and duplicates change no bit of operations that run at the same time', async (t) => {
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 2, max: 5 }), fc.nat(), anyLength, async (size, seed, length) => {
      const world = openWorld(size, { seed, maxDelayMs: 3, duplicate: 0.3 });
      const first = world.groups.map((group) => values('Float32Array', length, group.rank));
      const second = world.groups.map((group) => values('Float64Array', 9000, group.rank + 10));
      const third = world.groups.map((group) => values('Int32Array', 3, group.rank + 20));
      const expected = [treeSum(first), treeSum(second), third[1]!.slice()];
      await Promise.all(
        world.groups.flatMap((group, rank) => [
          group.allReduce(first[rank]!),
          group.allReduce(second[rank]!),
          group.broadcast(third[rank]!, 1),
        ]),
      );
      for (let rank = 0; rank < size; rank++) {
        t.true(bytes(first[rank]!).equals(bytes(expected[0]!)));
        t.true(bytes(second[rank]!).equals(bytes(expected[1]!)));
        t.true(bytes(third[rank]!).equals(bytes(expected[2]!)));
      }
      await world.close();
    }),
    { numRuns: 25 },
  );
});

test('memory may be changed as soon as an operation is done, whatever is still under way', async (t) => {
  const world = openWorld(3, { seed: 4, maxDelayMs: 5, duplicate: 0.5 });
  const results = await Promise.all(
    world.groups.map(async (group, rank) => {
      const seen: number[] = [];
      const buffer = new Float32Array(30_000);
      const ranges = [0, 1, 2].map((r) => ({ start: r * 10_000, end: (r + 1) * 10_000 }));
      for (let round = 0; round < 5; round++) {
        buffer.fill(-1).fill(round * 10 + rank, ranges[rank]!.start, ranges[rank]!.end);
        await group.allGather(buffer, ranges);
        seen.push(buffer[0]!, buffer[9_999]!, buffer[10_000]!, buffer[29_999]!);
        buffer.fill(-2);
      }
      return seen;
    }),
  );
  const expected = [0, 1, 2, 3, 4].flatMap((round) => [0, 0, 1, 2].map((r) => round * 10 + r));
  for (const seen of results) t.deepEqual(seen, expected);
  await world.close();
});

test('sub-groups work side by side on the same transport, launched in any order', async (t) => {
  const world = openWorld(4);
  const lists = [
    [0, 1],
    [2, 3],
    [0, 2],
    [1, 3],
    [0, 1, 3],
  ];
  const results = await Promise.all(
    world.exchanges.map(async (exchange, rank) => {
      const mine = lists.filter((ranks) => ranks.includes(rank));
      const groups = mine.map((ranks) => new ProcessGroup(exchange, ranks));
      const buffers = mine.map(() => new Float32Array(20_000).fill(2 ** rank));
      const order = rank % 2 === 0 ? mine.map((_, i) => i) : mine.map((_, i) => mine.length - 1 - i);
      await Promise.all(order.map((i) => groups[i]!.allReduce(buffers[i]!)));
      return buffers.map((buffer, i) => [mine[i]!, buffer[0]!, buffer[19_999]!] as const);
    }),
  );
  for (const result of results) {
    for (const [ranks, first, last] of result) {
      const sum = ranks.reduce((total, rank) => total + 2 ** rank, 0);
      t.deepEqual([first, last], [sum, sum]);
    }
  }
  await world.close();
});

test('a dropped message ends in a time-out that names operation, sequence and culprit', async (t) => {
  const dropWhen: Faults['dropWhen'] = (to, header) => header.from === 2 && to === 0 && header.sequence === 1;
  const world = openWorld(3, { seed: 1, dropWhen }, 800);
  const outcomes = await Promise.all(
    world.groups.map(async (group) => {
      await group.barrier();
      return group.allReduce(new Float32Array(100)).then(
        () => undefined,
        (error: SluiceError) => error,
      );
    }),
  );
  const error = outcomes[0]!;
  t.deepEqual(outcomes.slice(1), [undefined, undefined]);
  t.is(error.code, 'SLUICE_E_COLLECTIVE_TIMEOUT');
  t.regex(error.message, /Rank 0 waited 0\.8 s in allReduce 1 of group \[0, 1, 2\] for rank 2/);
  t.deepEqual(error.details, {
    rank: 0,
    operation: 'allReduce',
    group: [0, 1, 2],
    sequence: 1,
    waitingFor: [2],
  });
  const later = await t.throwsAsync(world.groups[0]!.barrier());
  t.is(later, error, 'a group that failed once refuses later operations');
  await world.close();
});

test('a rank that never joins is named by all others', async (t) => {
  const world = openWorld(3, undefined, 100);
  const errors = await Promise.all(
    [0, 2].map((rank) =>
      world.groups[rank]!.allReduce(new Float32Array(50_000)).catch((e: SluiceError) => e),
    ),
  );
  for (const error of errors) {
    t.is((error as SluiceError).code, 'SLUICE_E_COLLECTIVE_TIMEOUT');
    t.true(((error as SluiceError).details.waitingFor as number[]).includes(1));
    t.regex((error as SluiceError).message, /rank 1 \(/);
  }
  await world.close();
});

test('a cut connection ends in a time-out on both sides', async (t) => {
  const transports = inProcessWorld(2, CHUNK_BYTES).map((inner) => new FaultyTransport(inner, { seed: 1 }));
  const groups = transports.map(
    (transport) => new ProcessGroup(new Exchange(transport), [0, 1], { limitMs: 100 }),
  );
  await Promise.all(groups.map((group) => group.barrier()));
  transports[0]!.cut(1);
  transports[1]!.cut(0);
  const errors = await Promise.all(groups.map((group) => group.barrier().catch((e: SluiceError) => e)));
  t.deepEqual(
    errors.map((error) => (error as SluiceError).details.waitingFor),
    [[1], [0]],
  );
});

test('ranks that disagree about an operation are told so', async (t) => {
  const cases: [string, (group: ProcessGroup) => Promise<unknown>][] = [
    [
      'operation',
      (g) => (g.rank === 0 ? g.broadcast(new Float32Array(9), 0) : g.allReduce(new Float32Array(9))),
    ],
    ['type', (g) => g.allReduce(g.rank === 0 ? new Float32Array(9) : new Int32Array(9))],
    ['length', (g) => g.allReduce(new Float32Array(g.rank === 0 ? 8 : 9))],
    ['long length', (g) => g.allReduce(new Float32Array(g.rank === 0 ? 80_000 : 90_000))],
  ];
  for (const [name, run] of cases) {
    const world = openWorld(2);
    const outcomes = await Promise.allSettled(world.groups.map(run));
    const codes = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason.code] : []));
    t.true(codes.includes('SLUICE_E_COLLECTIVE_MISMATCH'), name);
    await world.close();
  }
});

test('a rank far ahead of another makes nothing pile up there', async (t) => {
  const world = openWorld(2);
  const ahead = Array.from({ length: 200 }, (_, i) =>
    i % 2 === 0 ? world.groups[0]!.barrier() : world.groups[0]!.allReduce(new Float32Array(20_000)),
  );
  await new Promise((resolve) => setTimeout(resolve, 50));
  const { messages, bytes: held } = world.exchanges[1]!.early;
  t.true(messages > 0 && messages <= 200, `${messages} messages`);
  t.true(held <= 64 * (1 << 14), `${held} bytes`);
  for (let i = 0; i < 200; i++) {
    if (i % 2 === 0) await world.groups[1]!.barrier();
    else await world.groups[1]!.allReduce(new Float32Array(20_000));
  }
  await Promise.all(ahead);
  t.is(world.exchanges[1]!.early.messages, 0);
  await world.close();
});

test('a lost peer fails what is under way and what comes later, in its groups only', async (t) => {
  const world = openWorld(3);
  const pair = new ProcessGroup(world.exchanges[0]!, [0, 1]);
  const pairOther = new ProcessGroup(world.exchanges[1]!, [0, 1]);
  const running = world.groups[0]!.barrier();
  const { SluiceError: Coded } = await import('@sluice/core');
  world.exchanges[0]!.peerLost(2, new Coded('SLUICE_E_WORKER_LOST', 'Rank 2 was killed.'));
  t.is((await t.throwsAsync(running))!.message, 'Rank 2 was killed.');
  t.is((await t.throwsAsync(world.groups[0]!.barrier()))!.message, 'Rank 2 was killed.');
  await Promise.all([pair.barrier(), pairOther.barrier()]);
  await world.close();
});

test('bad arguments are refused at the call', async (t) => {
  const world = openWorld(2);
  const group = world.groups[0]!;
  t.throws(() => group.allGather(new Float32Array(4), [{ start: 0, end: 4 }]), {
    message: /1 ranges for a group of 2/,
  });
  t.throws(
    () =>
      group.reduceScatter(new Float32Array(4), [
        { start: 0, end: 2 },
        { start: 2, end: 5 },
      ]),
    { message: /\[2, 5\) of rank 1/ },
  );
  t.throws(() => new ProcessGroup(world.exchanges[0]!, [1, 0]), { message: /ascending/ });
  t.throws(() => new ProcessGroup(world.exchanges[0]!, [1]), { message: /hold rank 0/ });
  await world.close();
});
