/**
 * Collective operations among a group of ranks. Operations match by the order in which each rank launches them on
 * the group; several may be under way. Sums are direct: the owner of a slice receives every other rank's part and
 * adds them in the order of a fixed tree (`reduce.ts`), so results have the same bits whatever arrives first.
 *
 * Every operation resolves to the moment when the last peer that had to do with it was first heard of in it, on the
 * clock of `monotonicMs`: until then it may have waited for that peer, from then on bytes were moving.
 */

import { BLOCK_ELEMENTS, invariant } from '@sluice/core';
import { roundToBfloat16 } from '@sluice/engine/bfloat16';
import { copyInto } from '@sluice/engine/memory';
import {
  bytesOf,
  type CollectiveArray,
  checkRanges,
  type DataType,
  dataTypeOf,
  type ElementRange,
  type FloatWire,
  SENDS_ITSELF,
  wireBytes,
} from './arrays.ts';
import { awakeTimeout } from './awakeTime.ts';
import { type Exchange, MAX_OPERATIONS_IN_FLIGHT } from './exchange.ts';
import { CREDIT_WINDOW_BYTES, EAGER_BYTES, Operation, timeoutError } from './operation.ts';
import { type Reducer, RoundedReducer, TreeReducer } from './reduce.ts';
import { ScratchMemory } from './scratchMemory.ts';
import type { Payload } from './transport.ts';
import { groupId, type OperationName } from './wire.ts';

export interface ProcessGroupOptions {
  /** Longest time that one operation may take, ms. */
  readonly limitMs?: number;
  /** Tells groups of the same ranks apart. */
  readonly purpose?: string;
  /** World ranks without which its operations are in vain; its own when left out. */
  readonly concerned?: readonly number[];
}

/**
 * Of two ranks each sends as many bytes whether it sends all it has, or half of it and then half of the sums; the first takes one hop
 * less, and counts as long as hops take longer than adding twice and keeping a copy.
 */
const MOST_BYTES_OF_TWO = 1 << 20;

/** Longest time that an operation may take unless said otherwise, ms. */
export const DEFAULT_COLLECTIVE_LIMIT_MS = 300_000;

export class ProcessGroup {
  /** World ranks, ascending. */
  readonly ranks: readonly number[];
  /** Own rank within the group. */
  readonly rank: number;
  readonly size: number;
  readonly #id: number;
  readonly #exchange: Exchange;
  readonly #limitMs: number;
  readonly #concerned: readonly number[];
  readonly #reducers = new Map<DataType, Reducer>();
  readonly #scratch = new ScratchMemory();
  readonly #waiting: (() => void)[] = [];
  #sequence = 0;
  #inFlight = 0;
  #broken: Error | undefined;

  constructor(exchange: Exchange, ranks: readonly number[], options: ProcessGroupOptions = {}) {
    checkGroup(ranks, exchange.rank, exchange.size);
    this.ranks = ranks;
    this.rank = ranks.indexOf(exchange.rank);
    this.size = ranks.length;
    this.#id = groupId(ranks, options.purpose);
    this.#exchange = exchange;
    this.#concerned = options.concerned ?? ranks;
    this.#limitMs = options.limitMs ?? DEFAULT_COLLECTIVE_LIMIT_MS;
  }

  /** Replaces every element by its sum over the ranks. */
  allReduce(buffer: CollectiveArray): Promise<number> {
    const isShort = buffer.byteLength <= (this.size === 2 ? MOST_BYTES_OF_TWO : EAGER_BYTES);
    return this.#launch('allReduce', dataTypeOf(buffer), (operation) => {
      if (isShort) this.#reduceEverywhere(operation, buffer);
      else this.#reduceAndGather(operation, buffer);
    });
  }

  /**
   * Replaces the own range by its sum over the ranks; the rest of `buffer` stays. Ranges are the same on all ranks.
   * @param wire how floats travel. bfloat16: wherever two partial sums are added, both are rounded before; the sum of all is not
   */
  reduceScatter(buffer: CollectiveArray, ranges: readonly ElementRange[], wire?: FloatWire): Promise<number> {
    checkRanges(ranges, this.size, buffer.length);
    const { start, end } = ranges[this.rank]!;
    return this.#reduceRanges(buffer, ranges, bytesOf(buffer, start, end), wire);
  }

  /** As `reduceScatter`, but for the sum, which goes to `target`, as long as the own range: `buffer` stays as it is. */
  reduceInto(
    buffer: CollectiveArray,
    ranges: readonly ElementRange[],
    target: CollectiveArray,
    wire?: FloatWire,
  ): Promise<number> {
    checkRanges(ranges, this.size, buffer.length);
    const { start, end } = ranges[this.rank]!;
    const own = bytesOf(buffer, start, end);
    return this.#reduceRanges(buffer, ranges, bytesOf(target), wire, () => bytesOf(target).set(own));
  }

  /**
   * @param own where the own part lies and its sum goes
   * @param begin called before anything is summed
   */
  #reduceRanges(
    buffer: CollectiveArray,
    ranges: readonly ElementRange[],
    own: Uint8Array,
    wire?: FloatWire,
    begin: () => void = () => {},
  ): Promise<number> {
    const isRounded = wire === 'bfloat16';
    const taken: Uint8Array[] = [];
    const payload = ({ start, end }: ElementRange) => {
      if (!isRounded) return bytesOf(buffer, start, end);
      invariant(buffer instanceof Float32Array, 'only single precision travels as bfloat16');
      const memory = this.#scratch.take(wireBytes(buffer, [{ start, end }], wire));
      taken.push(memory);
      roundToBfloat16(
        buffer.subarray(start, end),
        new Uint16Array(memory.buffer, memory.byteOffset, end - start),
      );
      return memory;
    };
    const finished = this.#launch(
      'reduceScatter',
      isRounded ? 'bfloat16' : dataTypeOf(buffer),
      (operation) => {
        begin();
        this.#reduceOwn(operation, own);
        this.#eachPeer((rank, peer) => operation.send(peer, payload(ranges[rank]!)));
      },
    );
    if (!isRounded) return finished;
    return finished.then((begun) => {
      for (const memory of taken) this.#scratch.give(memory);
      return begun;
    });
  }

  /** Fills every other rank's range with what that rank has there. */
  allGather(buffer: CollectiveArray, ranges: readonly ElementRange[]): Promise<number> {
    checkRanges(ranges, this.size, buffer.length);
    return this.#launch('allGather', dataTypeOf(buffer), (operation) => {
      const own = ranges[this.rank]!;
      this.#eachPeer((rank, peer) => {
        const { start, end } = ranges[rank]!;
        receiveInto(operation, peer, bytesOf(buffer, start, end));
        operation.send(peer, bytesOf(buffer, own.start, own.end));
      });
    });
  }

  /**
   * Sends the elements `sendRanges[r]` of `send` to each rank r, and receives `receiveRanges[r]` of `receive` from it.
   * Each length must equal what the other side says; ranges may be empty.
   */
  allToAll(
    send: CollectiveArray,
    sendRanges: readonly ElementRange[],
    receive: CollectiveArray,
    receiveRanges: readonly ElementRange[],
  ): Promise<number> {
    checkRanges(sendRanges, this.size, send.length);
    checkRanges(receiveRanges, this.size, receive.length);
    return this.#launch('allToAll', dataTypeOf(send), (operation) => {
      const ownOut = sendRanges[this.rank]!;
      const ownIn = receiveRanges[this.rank]!;
      invariant(
        ownOut.end - ownOut.start === ownIn.end - ownIn.start && dataTypeOf(send) === dataTypeOf(receive),
        SENDS_ITSELF,
      );
      copyInto(bytesOf(receive, ownIn.start, ownIn.end), bytesOf(send, ownOut.start, ownOut.end));
      this.#eachPeer((rank, peer) => {
        receiveInto(operation, peer, bytesOf(receive, receiveRanges[rank]!.start, receiveRanges[rank]!.end));
        operation.send(peer, bytesOf(send, sendRanges[rank]!.start, sendRanges[rank]!.end));
      });
    });
  }

  /** Copies the buffer of `root` (a rank of the group) to all. */
  broadcast(buffer: CollectiveArray, root: number): Promise<number> {
    invariant(Number.isInteger(root) && root >= 0 && root < this.size, `no rank ${root} to broadcast from`);
    return this.#launch('broadcast', dataTypeOf(buffer), (operation) => {
      const bytes = bytesOf(buffer);
      if (this.rank !== root) receiveInto(operation, this.ranks[root]!, bytes);
      else this.#eachPeer((_, peer) => operation.send(peer, bytes));
    });
  }

  /** Completes when every rank has launched it. */
  barrier(): Promise<number> {
    return this.#launch('barrier', 'uint8', (operation) => {
      this.#eachPeer((_, peer) => {
        receiveInto(operation, peer, new Uint8Array(1));
        operation.send(peer, new Uint8Array(1));
      });
    });
  }

  #launch(name: OperationName, dataType: DataType, build: (operation: Operation) => void): Promise<number> {
    const operation = new Operation(
      {
        ...{ name, dataType, group: this.#id, ranks: this.ranks },
        ...{ concerned: this.#concerned, sequence: this.#sequence },
      },
      this.#exchange,
    );
    this.#sequence = (this.#sequence + 1) >>> 0;
    const start = () => this.#start(operation, build);
    if (this.#inFlight < MAX_OPERATIONS_IN_FLIGHT) start();
    else this.#waiting.push(start);
    return operation.finished;
  }

  #start(operation: Operation, build: (operation: Operation) => void): void {
    this.#inFlight += 1;
    const timeOut = () =>
      operation.fail(timeoutError(this.#exchange.rank, this.#limitMs, operation, operation.waitingFor()));
    const endWait = awakeTimeout(this.#limitMs, timeOut);
    operation.finished
      .catch((error: Error) => {
        // What comes later could be taken for what is missing now, so a group that failed once stays failed.
        this.#broken ??= error;
      })
      .finally(() => {
        endWait();
        this.#inFlight -= 1;
        this.#waiting.shift()?.();
      });
    if (this.#broken !== undefined) {
      operation.fail(this.#broken);
      return;
    }
    build(operation);
    this.#exchange.begin(operation);
  }

  /** Short buffers: everybody sends all to everybody and adds for itself; one hop instead of two. */
  #reduceEverywhere(operation: Operation, buffer: CollectiveArray): void {
    const own = bytesOf(buffer);
    // Sums may be there before a peer has read what they are made of. Eager streams are copies as it is.
    const copy = own.length > EAGER_BYTES ? this.#scratch.take(own.length) : undefined;
    if (copy) copyInto(copy, own);
    this.#eachPeer((_, peer) => operation.send(peer, copy ?? own));
    this.#reduceOwn(operation, own);
    if (copy !== undefined) operation.finished.then(() => this.#scratch.give(copy)).catch(() => {});
  }

  /** Each rank adds up a slice of its own and sends the sum to all, chunk by chunk while others still arrive. */
  #reduceAndGather(operation: Operation, buffer: CollectiveArray): void {
    const ranges = evenSlices(buffer.length, this.size);
    const own = ranges[this.rank]!;
    const sums = bytesOf(buffer, own.start, own.end);
    const outgoing: ReturnType<Operation['send']>[] = [];
    this.#eachPeer((rank, peer) => {
      const slice = bytesOf(buffer, ranges[rank]!.start, ranges[rank]!.end);
      // The sums that come back prove that the parts arrived, so they need no confirmation.
      operation.send(peer, slice, { confirm: false });
      receiveInto(operation, peer, slice, 1);
      outgoing.push(operation.send(peer, sums, { phase: 1, available: 0 }));
    });
    this.#reduceOwn(
      operation,
      sums,
      (available) => {
        for (const stream of outgoing) if (stream !== undefined) operation.extend(stream, available);
      },
      false,
    );
  }

  /**
   * Receives the other ranks' parts of what `own` is this rank's part of, and adds each chunk as soon as all have come.
   * @param onReduced told how many bytes from the start are summed
   */
  #reduceOwn(
    operation: Operation,
    own: Uint8Array,
    onReduced: (bytes: number) => void = () => {},
    confirm = true,
  ): void {
    const chunkBytes = this.#exchange.chunkBytes;
    const reducer = this.#reducer(operation.dataType);
    const { widening } = reducer;
    const total = own.length / widening;
    const arrived = new Map<number, { payloads: (Payload | undefined)[]; missing: number }>();
    const reduced = new Set<number>();
    let prefix = 0;

    const take = (rank: number, offset: number, payload: Payload) => {
      let chunk = arrived.get(offset);
      if (chunk === undefined) {
        chunk = { payloads: new Array(this.size).fill(undefined), missing: this.size - 1 };
        arrived.set(offset, chunk);
      }
      chunk.missing -= 1;
      chunk.payloads[rank] = chunk.missing > 0 ? payload.keep() : payload;
      if (chunk.missing > 0) return;
      reducer.reduce(
        own.subarray(widening * offset, widening * (offset + chunkBytes)),
        this.rank,
        chunk.payloads,
      );
      for (const held of chunk.payloads) held?.release();
      for (const stream of streams) operation.used(stream, payload.byteLength);
      arrived.delete(offset);
      reduced.add(offset);
      while (reduced.delete(prefix)) prefix = Math.min(prefix + chunkBytes, total);
      for (const stream of streams) operation.grant(stream, prefix + CREDIT_WINDOW_BYTES);
      onReduced(prefix);
    };

    const streams: NonNullable<ReturnType<Operation['receive']>>[] = [];
    this.#eachPeer((rank, peer) => {
      const stream = operation.receive(peer, total, (offset, payload) => take(rank, offset, payload), {
        granted: CREDIT_WINDOW_BYTES,
        confirm,
      });
      if (stream !== undefined) streams.push(stream);
    });
  }

  #reducer(dataType: DataType): Reducer {
    let reducer = this.#reducers.get(dataType);
    if (reducer === undefined) {
      reducer =
        dataType === 'bfloat16' ? new RoundedReducer(this.size) : new TreeReducer(dataType, this.size);
      this.#reducers.set(dataType, reducer);
    }
    return reducer;
  }

  /** Calls for every other rank, the next one first, so that not all send to the same rank at once. */
  #eachPeer(visit: (rank: number, peer: number) => void): void {
    for (let step = 1; step < this.size; step++) {
      const rank = (this.rank + step) % this.size;
      visit(rank, this.ranks[rank]!);
    }
  }
}

/** Receives a stream straight into its place. */
function receiveInto(operation: Operation, peer: number, target: Uint8Array, phase = 0): void {
  operation.receive(
    peer,
    target.length,
    (offset, payload, stream) => {
      payload.copyTo(target.subarray(offset));
      payload.release();
      operation.used(stream, payload.byteLength);
    },
    { phase },
  );
}

/** Cuts `length` elements into one slice a rank, between blocks, as evenly as blocks allow. */
export function evenSlices(length: number, size: number): ElementRange[] {
  const blocks = Math.ceil(length / BLOCK_ELEMENTS);
  return Array.from({ length: size }, (_, rank) => ({
    start: Math.min(length, Math.floor((blocks * rank) / size) * BLOCK_ELEMENTS),
    end: Math.min(length, Math.floor((blocks * (rank + 1)) / size) * BLOCK_ELEMENTS),
  }));
}

/** Refuses lists of ranks that cannot form a group of which `own` is a member. */
export function checkGroup(ranks: readonly number[], own: number, worldSize: number): void {
  const ascending = ranks.every((rank, i) => i === 0 || rank > ranks[i - 1]!);
  const inside = ranks.every((rank) => Number.isInteger(rank) && rank >= 0 && rank < worldSize);
  invariant(
    ascending && inside && ranks.includes(own),
    `group [${ranks.join(', ')}] must be ascending ranks below ${worldSize} and hold rank ${own}`,
  );
}
