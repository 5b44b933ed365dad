/**
 * Devices that send each other their memory by NCCL, on a stream of their own beside the one that computes. All of a process's groups
 * share one communicator, so that the order of operations is one, and none waits for another that came later elsewhere. Sums are ours,
 * in the order of the tree that the host's collectives have. Who needs what arrives is the stream that computes, which waits for it by itself.
 */

import { invariant, type SluiceError } from '@sluice/core';
import type { DeviceLink, FlatRange, LinkOperation, Peers, WatchLink } from '../deviceLink.ts';
import type { Floats } from '../floats.ts';
import type { RowArrival, RowRange } from '../ops/exchangedExperts.ts';
import { type Activations, bytesOf, type CudaDevice, DeviceArray } from './device.ts';
import type { StreamHandle } from './driver.ts';
import { addRounded, copy, narrow, sumTree, widen } from './flatArithmetic.ts';
import type { CommunicatorHandle, Nccl, Transfer } from './nccl.ts';

type DeviceFloats = DeviceArray<'f32'>;

const ON_DEVICE = 'a device sends what lies on it';

/** Leaves of the tree that one kernel adds up: a power of two. */
const MOST_LEAVES = 32;
/** How long an error of NCCL's may be the first sign of a peer's end, of which the coordinator tells more, ms. */
const OTHERS_ERROR_MS = 5000;

/** All on the stream that sends, in this order: `before`, the transfers, and, once all has come, `after`. */
interface Phase {
  readonly before?: () => void;
  readonly transfers: readonly Transfer[];
  readonly after?: () => void;
  /** What these two use beside what is transferred. */
  readonly scratch?: readonly DeviceArray[];
}

/** What one member gets of a phase: a sum of what all have, each in a range of its own memory. */
interface Sum {
  /** Own parts of the sums of all members, in their order. */
  readonly parts: readonly DeviceFloats[];
  /** Gets the own sum. Where it is not the own part, that stays as it is. */
  readonly target: DeviceFloats;
}

/** Those who take part in a phase. */
interface Members {
  readonly ranks: readonly number[];
  /** Own place among them. */
  readonly place: number;
}

export class NcclLink implements DeviceLink {
  readonly #nccl: Nccl;
  readonly #device: CudaDevice;
  readonly #watch: WatchLink;
  readonly #communicator: CommunicatorHandle;
  readonly #stream: StreamHandle;
  /** What arrives before it is added up, and what is rounded to be sent, by what it is for. */
  readonly #scratch = new Map<string, DeviceArray>();
  #broken: unknown;
  #failedAt: number | undefined;

  /** Waits for the others. @throws SLUICE_E_NCCL, and what `watch` throws */
  constructor(
    nccl: Nccl,
    device: CudaDevice,
    name: Int32Array,
    { rank, size, watch }: { rank: number; size: number; watch: WatchLink },
  ) {
    this.#nccl = nccl;
    this.#device = device;
    this.#watch = watch;
    this.#stream = device.driver.makeStream();
    // Not while something is under way, which whoever loads code may wait for.
    for (const name of ['addRounded', 'narrow', 'sumTree', 'widen']) device.kernel('flat', name).load();
    this.#communicator = nccl.connect(name, rank, size);
    this.#settle(Array.from({ length: size }, (_, peer) => peer));
  }

  reduceScatter(
    peers: Peers,
    values: Floats,
    ranges: readonly FlatRange[],
    wire: 'float32' | 'bfloat16',
  ): RowArrival {
    const parts = ranges.map((range) => partOf(values, range));
    const own = parts[peers.rank]!;
    const { grid } = peers;
    if (!grid) {
      const members = { ranks: peers.ranks, place: peers.rank };
      const flat = this.#addUp('within', members, [{ parts, target: own }], wire);
      return this.#exchange('reduceScatter', peers, [flat]);
    }
    // Within each host the sums of it that those of this one's place are to have, of all hosts; then these exchange them.
    const column = columnOf(grid, parts, peers.rank);
    const sums = this.#lay(
      'sums',
      'f32',
      column.map(({ length }) => length),
    );
    const within = sums.map((target, host) => ({ parts: rowOf(grid, parts, host), target }));
    return this.#exchange('reduceScatter', peers, [
      this.#addUp('within', neighboursOf(grid, peers), within, wire),
      this.#addUp('between', counterpartsOf(grid, peers), [{ parts: sums, target: own }], wire),
    ]);
  }

  allGather(peers: Peers, values: Floats, ranges: readonly FlatRange[]): RowArrival {
    invariant(values instanceof DeviceArray, ON_DEVICE);
    const parts = ranges.map(({ start, end }) => values.subarray(start, end));
    const { grid } = peers;
    const phases = grid
      ? [
          gather(counterpartsOf(grid, peers), [columnOf(grid, parts, peers.rank)]),
          // What has come is passed on.
          gather(
            neighboursOf(grid, peers),
            Array.from({ length: grid.hosts }, (_, host) => rowOf(grid, parts, host)),
          ),
        ]
      : [gather({ ranks: peers.ranks, place: peers.rank }, [parts])];
    return this.#exchange('allGather', peers, phases);
  }

  startRows(
    peers: Peers,
    sent: Activations,
    to: readonly RowRange[],
    received: Activations,
    from: readonly RowRange[],
    width: number,
  ): RowArrival {
    const part = (array: DeviceArray, { begin, end }: RowRange) => array.subarray(begin * width, end * width);
    const transfers = peers.ranks.map((peer, place) =>
      transfer(peer, part(sent, to[place]!), part(received, from[place]!)),
    );
    return this.#exchange('allToAll', peers, [{ transfers }]);
  }

  /** Each member sends the others its parts of their sums, and adds up what comes of its own. */
  #addUp(
    use: 'within' | 'between',
    { ranks, place }: Members,
    sums: readonly Sum[],
    wire: 'float32' | 'bfloat16',
  ): Phase {
    const others = [...ranks.keys()].filter((member) => member !== place);
    const [arriving, leaving] = [
      sums.flatMap(({ target }) => others.map(() => target.length)),
      sums.flatMap(({ parts }) => others.map((member) => parts[member]!.length)),
    ];
    const arrived = this.#lay(`leaves ${use}`, 'f32', arriving);
    const leaves = sums.map(({ target }, i) => {
      const all = arrived.slice(i * others.length, (i + 1) * others.length);
      all.splice(place, 0, target);
      return all;
    });
    const parts = sums.flatMap(({ parts }) => others.map((member) => parts[member]!));
    const peers = sums.flatMap(() => others.map((member) => ranks[member]!));
    const takeOwn = () => {
      for (const { parts, target } of sums) if (parts[place] !== target) copy(target, parts[place]!);
    };
    if (wire === 'float32') {
      return {
        before: takeOwn,
        transfers: peers.map((peer, i) => transfer(peer, parts[i]!, arrived[i]!)),
        after: () => {
          for (const [i, { target }] of sums.entries()) sum(target, leaves[i]!);
        },
        scratch: sums.map(({ target }) => target),
      };
    }
    const sent = this.#lay(`sent ${use}`, 'bf16', leaving);
    const received = this.#lay(`received ${use}`, 'bf16', arriving);
    return {
      before: () => {
        takeOwn();
        for (const [i, part] of parts.entries()) narrow(sent[i]!, part);
      },
      transfers: peers.map((peer, i) => transfer(peer, sent[i]!, received[i]!)),
      after: () => {
        for (const [i, leaf] of arrived.entries()) widen(leaf, received[i]!);
        for (const [i, { target }] of sums.entries()) sumRounded(target, leaves[i]!);
      },
      scratch: leaves.flat(),
    };
  }

  /** One phase after the other. */
  #exchange(name: LinkOperation['name'], peers: Peers, phases: readonly Phase[]): RowArrival {
    const { ranks } = peers;
    if (this.#broken) throw this.#broken;
    const filled = phases.map(({ transfers }) =>
      transfers.filter(({ send, receive }) => send.bytes + receive.bytes > 0),
    );
    const { driver, arena } = this.#device;
    const moment = driver.beside(this.#stream, () => {
      for (const [i, { before, after }] of phases.entries()) {
        before?.();
        if (filled[i]!.length > 0) {
          this.#guard(() => this.#nccl.exchange(this.#communicator, filled[i]!, this.#stream));
          this.#settle(ranks);
        }
        after?.();
      }
    });
    const transfers = filled.flat();
    const scratch = phases.flatMap(({ scratch = [] }) => scratch);
    const arrival = this.#watch({
      ...{ ranks, name },
      bytes: transfers.reduce((total, { send }) => total + send.bytes, 0),
      isDone: () => this.#isReady() && moment.isReached(),
    });
    const use = {
      ranges: [...transfers.flatMap(({ send, receive }) => [send, receive]), ...scratch.map(rangeOf)],
      end: () => driver.leaveWait(moment, () => this.#guard(() => arrival.wait())),
    };
    arena.useBeside(use);
    return {
      get done() {
        return arrival.done;
      },
      wait: () => this.#guard(() => arena.endBeside(use)),
    };
  }

  /** Waits until what was asked for is on its stream: that takes long where ranks meet for the first time. */
  #settle(ranks: readonly number[]): void {
    if (this.#isReady()) return;
    const connection = { ranks, name: 'barrier', bytes: 0, isDone: () => this.#isReady() } as const;
    this.#guard(() => this.#watch(connection).wait());
  }

  /** What is wrong with NCCL is told after a while: it may be that a peer is gone, and whoever watches knows more of that. */
  #isReady(): boolean {
    // The communicator is no more.
    if (this.#broken) throw this.#broken;
    try {
      return this.#nccl.isReady(this.#communicator);
    } catch (error) {
      this.#failedAt ??= performance.now();
      if (performance.now() - this.#failedAt > OTHERS_ERROR_MS) throw error;
      return false;
    }
  }

  /** After an error nobody knows what has come and what has not: the communicator ends with it. */
  #guard<T>(f: () => T): T {
    if (this.#broken) throw this.#broken;
    try {
      return f();
    } catch (error) {
      this.#broken = error as SluiceError;
      this.#nccl.abort(this.#communicator);
      throw error;
    }
  }

  /** Memory for arrays of these lengths, one after the other, which operations use in turn. */
  #lay<S extends 'f32' | 'bf16'>(use: string, storage: S, lengths: readonly number[]): DeviceArray<S>[] {
    const total = lengths.reduce((sum, length) => sum + length, 0);
    let kept = this.#scratch.get(use) as DeviceArray<S> | undefined;
    if (!kept || kept.length < total) {
      if (kept) this.#device.free(kept);
      kept = this.#device.allocate(total, storage);
      this.#scratch.set(use, kept);
    }
    let end = 0;
    return lengths.map((length) => {
      end += length;
      return kept.subarray(end - length, end);
    });
  }
}

type Grid = NonNullable<Peers['grid']>;

/** What is of a host's members, of something that each member has. */
function rowOf<T>({ perHost }: Grid, all: readonly T[], host: number): T[] {
  return all.slice(host * perHost, (host + 1) * perHost);
}

/** What is of those who have this one's place on their hosts. */
function columnOf<T>({ perHost }: Grid, all: readonly T[], rank: number): T[] {
  return all.filter((_, other) => other % perHost === rank % perHost);
}

function neighboursOf(grid: Grid, { ranks, rank }: Peers): Members {
  const { perHost } = grid;
  return { ranks: rowOf(grid, ranks, Math.floor(rank / perHost)), place: rank % perHost };
}

function counterpartsOf(grid: Grid, { ranks, rank }: Peers): Members {
  return { ranks: columnOf(grid, ranks, rank), place: Math.floor(rank / grid.perHost) };
}

/** Each member sends all others what it has of each row of parts, which are the members' in their order. */
function gather({ ranks, place }: Members, rows: readonly (readonly DeviceArray[])[]): Phase {
  const transfers = rows.flatMap((parts) =>
    parts.flatMap((part, member) =>
      member === place ? [] : [transfer(ranks[member]!, parts[place]!, part)],
    ),
  );
  return { transfers };
}

function partOf(values: Floats, { start, end }: FlatRange): DeviceFloats {
  return floats(values).subarray(start, end);
}

function floats(values: Floats): DeviceFloats {
  invariant(values instanceof DeviceArray && values.storage === 'f32', ON_DEVICE);
  return values as DeviceFloats;
}

function transfer(peer: number, sent: DeviceArray, received: DeviceArray): Transfer {
  return { peer, send: rangeOf(sent), receive: rangeOf(received) };
}

function rangeOf({ address, storage, length }: DeviceArray): Transfer['send'] {
  return { address, bytes: length * bytesOf(storage) };
}

/** ((0+1)+(2+3))+…, over any number of leaves; these are changed where there are many. */
function sum(target: DeviceFloats, leaves: readonly DeviceFloats[]): void {
  if (leaves.length <= MOST_LEAVES) {
    sumTree(target, leaves);
    return;
  }
  const branches: DeviceFloats[] = [];
  for (let first = 0; first < leaves.length; first += MOST_LEAVES) {
    const below = leaves.slice(first, first + MOST_LEAVES);
    sumTree(below[0]!, below);
    branches.push(below[0]!);
  }
  sum(target, branches);
}

/** The same, of leaves each two of which are rounded before they are added; all of them are changed. */
function sumRounded(target: DeviceFloats, leaves: readonly DeviceFloats[]): void {
  for (let distance = 1; distance < leaves.length; distance *= 2) {
    for (let place = 0; place + distance < leaves.length; place += 2 * distance)
      addRounded(leaves[place]!, leaves[place + distance]!);
  }
  if (leaves[0]!.address !== target.address) copy(target, leaves[0]!);
}
