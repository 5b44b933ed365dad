/** Sums and gatherings by hosts: the bits of a flat group, with messages to as many ranks as there are hosts, and neighbours. */

import {
  Exchange,
  type Faults,
  FaultyTransport,
  HierarchicalGroup,
  hostGrid,
  inProcessWorld,
  ProcessGroup,
  type Transport,
} from '@sluice/collectives';
import { SluiceError } from '@sluice/core';
import test from 'ava';
import fc from 'fast-check';
import { failureOf } from '../support/failureOf.ts';

const CHUNK_BYTES = 1 << 12;

interface World {
  readonly hierarchical: readonly ProcessGroup[];
  readonly flat: readonly ProcessGroup[];
  /** Of the first. */
  readonly exchanges: readonly Exchange[];
  /** For each rank, those that it sent data to. */
  readonly sentTo: readonly Set<number>[];
  close(): Promise<void>;
}

/** Notes whom a rank sends data to. */
function watched(transport: Transport, sentTo: Set<number>): Transport {
  return new Proxy(transport, {
    get(target, name) {
      const value = Reflect.get(target, name, target) as unknown;
      if (name !== 'send') return typeof value === 'function' ? value.bind(target) : value;
      return (to: number, ...rest: [Parameters<Transport['send']>[1], Uint8Array?]) => {
        if (rest[0].kind === 'data') sentTo.add(to);
        return target.send(to, ...rest);
      };
    },
  });
}

function openWorld(hosts: number, perHost: number, faults?: Faults): World {
  const size = hosts * perHost;
  const sentTo = Array.from({ length: size }, () => new Set<number>());
  const open = (watches: boolean) =>
    inProcessWorld(size, CHUNK_BYTES).map((transport, rank) => {
      const seen = watches ? watched(transport, sentTo[rank]!) : transport;
      return new Exchange(faults === undefined ? seen : new FaultyTransport(seen, faults));
    });
  const ranks = Array.from({ length: size }, (_, rank) => rank);
  const [first, second] = [open(true), open(false)];
  const limits = { limitMs: 20_000 };
  return {
    hierarchical: first.map((exchange) => new HierarchicalGroup(exchange, ranks, { hosts, perHost }, limits)),
    flat: second.map((exchange) => new ProcessGroup(exchange, ranks, limits)),
    exchanges: first,
    sentTo,
    close: async () => {
      await Promise.all([...first, ...second].map((exchange) => exchange.close()));
    },
  };
}

function values(length: number, rank: number): Float32Array {
  return Float32Array.from(
    { length },
    (_, i) => Math.sin(1 + i * 12.9898 + rank * 78.233) * 10 ** ((i + rank) % 7),
  );
}

/** Uneven ranges that cover a buffer. */
function rangesOf(length: number, size: number, skew: number) {
  const edges = Array.from({ length: size + 1 }, (_, i) => Math.floor(length * (i / size) ** skew));
  return edges.slice(1).map((end, i) => ({ start: edges[i]!, end }));
}

/** Several operations at once on every rank; what the buffers hold afterwards. */
async function carryOut(groups: readonly ProcessGroup[], length: number, skew: number): Promise<Buffer[]> {
  const ranges = rangesOf(length, groups.length, skew);
  const all = await Promise.all(
    groups.map(async (group, rank) => {
      const buffers = Array.from({ length: 5 }, (_, i) => values(length, rank + 100 * i));
      await Promise.all([
        group.reduceScatter(buffers[0]!, ranges),
        group.allReduce(buffers[1]!),
        group.allGather(buffers[2]!, ranges),
        group.reduceScatter(buffers[3]!, ranges),
        group.reduceScatter(buffers[4]!, ranges, 'bfloat16'),
      ]);
      await group.allGather(buffers[3]!, ranges);
      return buffers;
    }),
  );
  return all.flat().map(({ buffer }) => Buffer.from(buffer));
}

test('operations by hosts leave the bits of a flat group, whatever their order of arrival', async (t) => {
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom([2, 2], [3, 2], [2, 4]),
      fc.constantFrom(100, 17_000, 40_000),
      fc.constantFrom(0.5, 1, 3),
      fc.option(fc.integer({ min: 0, max: 1000 }), { nil: undefined }),
      async ([hosts, perHost], length, skew, seed) => {
        const world = openWorld(
          hosts!,
          perHost!,
          seed === undefined ? undefined : { seed, maxDelayMs: 2, duplicate: 0.05 },
        );
        const [byHosts, flat] = await Promise.all([
          carryOut(world.hierarchical, length, skew),
          carryOut(world.flat, length, skew),
        ]);
        await world.close();
        if (byHosts.some((bytes, i) => !bytes.equals(flat[i]!))) throw new Error('other bits');
      },
    ),
    { numRuns: 15 },
  );
  t.pass();
});

test('a rank sends to its neighbours and to those of its place, and to nobody else', async (t) => {
  const world = openWorld(4, 2);
  await carryOut(world.hierarchical, 40_000, 1);
  await world.close();
  t.deepEqual([...world.sentTo[5]!].sort(), [1, 3, 4, 7], 'rank 5 is the second of the third host');
});

test('whoever is lost ends the operations of ranks that it never speaks to', async (t) => {
  const world = openWorld(2, 2);
  const buffers = [0, 1, 2].map((rank) => values(40_000, rank));
  const failures = buffers.map((buffer, rank) => failureOf(world.hierarchical[rank]!.allReduce(buffer)));
  const lost = new SluiceError('SLUICE_E_WORKER_LOST', 'rank 3 is lost');
  for (const exchange of world.exchanges) exchange.peerLost(3, lost);
  for (const failure of failures) t.is((await failure).message, 'rank 3 is lost');
  await world.close();
});

test('a group is worked by hosts where its ranks fill them evenly, by a power of two, in order', (t) => {
  const hosts = [
    [0, 1, 2, 3],
    [4, 5, 6, 7],
    [8, 9],
  ];
  t.deepEqual(hostGrid([0, 1, 2, 3, 4, 5, 6, 7], hosts), { hosts: 2, perHost: 4 });
  t.deepEqual(hostGrid([0, 1, 4, 5, 8, 9], hosts), { hosts: 3, perHost: 2 });
  t.is(hostGrid([0, 1, 2, 4, 5, 6], hosts), undefined, 'three on each');
  t.is(hostGrid([0, 1, 2, 3], hosts), undefined, 'one host');
  t.is(hostGrid([0, 4, 8], hosts), undefined, 'one on each');
  t.is(hostGrid([0, 1, 4, 5, 6, 7], hosts), undefined, 'uneven');
  t.is(hostGrid([0, 1, 4, 5, 20, 21], hosts), undefined, 'on a host that nobody has told');
  t.is(hostGrid([0, 1], []), undefined);
});
