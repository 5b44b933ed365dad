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

/** Leaves of the tree that one kernel adds up: a power of two. */
const MOST_LEAVES = 32;
/** How long an error of NCCL's may be the first sign of a peer's end, of which the coordinator tells more, ms. */
const OTHERS_ERROR_MS = 5000;

interface Exchange {
  readonly name: LinkOperation['name'];
  readonly peers: Peers;
  readonly before?: () => void;
  readonly transfers: readonly Transfer[];
  readonly after?: () => void;
  /** What these two use beside what is transferred. */
  readonly scratch?: readonly DeviceArray[];
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
    const { ranks, rank } = peers;
    const parts = ranges.map((range) => partOf(values, range));
    const own = parts[rank]!;
    const others = [...ranks.keys()].filter((place) => place !== rank);
    const name = 'reduceScatter';
    // What comes from the others; in the place of what would come from here, the own part.
    const leaves = this.#lay(
      'leaves',
      'f32',
      ranks.map((_, place) => (place === rank ? 0 : own.length)),
    );
    leaves[rank] = own;
    if (wire === 'float32') {
      const transfers = others.map((place) => transfer(ranks[place]!, parts[place]!, leaves[place]!));
      return this.#exchange({ name, peers, transfers, after: () => sum(own, leaves) });
    }
    const sent = this.#lay(
      'sent',
      'bf16',
      parts.map(({ length }, place) => (place === rank ? 0 : length)),
    );
    const received = this.#lay(
      'received',
      'bf16',
      ranks.map((_, place) => (place === rank ? 0 : own.length)),
    );
    return this.#exchange({
      ...{ name, peers },
      before: () => {
        for (const place of others) narrow(sent[place]!, parts[place]!);
      },
      scratch: leaves,
      transfers: others.map((place) => transfer(ranks[place]!, sent[place]!, received[place]!)),
      after: () => {
        for (const place of others) widen(leaves[place]!, received[place]!);
        sumRounded(own, leaves);
      },
    });
  }

  allGather(peers: Peers, values: Floats, ranges: readonly FlatRange[]): RowArrival {
    const parts = ranges.map((range) => partOf(values, range));
    const own = parts[peers.rank]!;
    const transfers = parts.flatMap((part, place) =>
      place === peers.rank ? [] : [transfer(peers.ranks[place]!, own, part)],
    );
    return this.#exchange({ name: 'allGather', peers, transfers });
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
    return this.#exchange({ name: 'allToAll', peers, transfers });
  }

  /** All on the stream that sends, in this order: `before`, the transfers, and, once all has come, `after`. */
  #exchange({ name, peers, before, transfers, after, scratch = [] }: Exchange): RowArrival {
    const { ranks } = peers;
    if (this.#broken) throw this.#broken;
    const filled = transfers.filter(({ send, receive }) => send.bytes + receive.bytes > 0);
    const { driver, arena } = this.#device;
    const moment = driver.beside(this.#stream, () => {
      before?.();
      if (filled.length > 0) {
        this.#guard(() => this.#nccl.exchange(this.#communicator, filled, this.#stream));
        this.#settle(ranks);
      }
      after?.();
    });
    const arrival = this.#watch({
      ...{ ranks, name },
      bytes: filled.reduce((total, { send }) => total + send.bytes, 0),
      isDone: () => this.#isReady() && moment.isReached(),
    });
    const use = {
      ranges: [...filled.flatMap(({ send, receive }) => [send, receive]), ...scratch.map(rangeOf)],
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

function partOf(values: Floats, { start, end }: FlatRange): DeviceFloats {
  return floats(values).subarray(start, end);
}

function floats(values: Floats): DeviceFloats {
  invariant(values instanceof DeviceArray && values.storage === 'f32', 'a device sends what lies on it');
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
