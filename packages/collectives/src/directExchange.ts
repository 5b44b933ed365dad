/**
 * All-to-all among ranks of one host, by their main threads alone, over `sharedChannels.ts`: bytes are copied once into
 * memory that the receiver sees, and once to where they belong, and no thread has to be woken. Operations are matched
 * by their order, as all of the group's are. Something moves only while a main thread launches an operation or waits
 * for one.
 */

import { invariant, SluiceError } from '@sluice/core';
import { copyInto } from '@sluice/engine/memory';
import {
  type ArrayType,
  bytesOf,
  type CollectiveArray,
  consecutiveRanges,
  DATA_TYPES,
  dataTypeOf,
  type ElementRange,
  SENDS_ITSELF,
  sharedInt32,
} from './arrays.ts';
import { AwakeClock } from './awakeTime.ts';
import { type BlockedTime, monotonicMs } from './blockedTime.ts';
import type { Group, Pending } from './group.ts';
import { describeOperation, timeoutError } from './operation.ts';
import { bytesSent, type OperationSpan } from './operationRecord.ts';
import { REPORT_MS, rest, SPIN_MS } from './rest.ts';
import { CARD_NUMBERS, type Channel, ChannelMemory, type PieceHeader } from './sharedChannels.ts';

/** What a direct exchange needs of the communicator. */
export interface DirectHost {
  readonly blocked: BlockedTime;
  /** Longest time that one operation may be waited for, ms. */
  readonly limitMs: number;
  /** @throws when one of these world ranks is lost, or the communication thread is */
  checkAlive(ranks: readonly number[]): void;
  /** Says in heartbeats which operation is waited for; undefined when none is. */
  waitsIn(operation: string | undefined): void;
}

/** Bytes to or from one peer. */
interface Stream {
  readonly operation: DirectOperation;
  readonly bytes: Uint8Array;
  moved: number;
}

/** The way to one peer and back. */
interface Way {
  /** World rank. */
  readonly peer: number;
  readonly channel: Channel;
  /** What is not moved yet, in order. */
  readonly outgoing: Stream[];
  readonly incoming: Stream[];
}

export class DirectExchange {
  readonly #group: Group;
  readonly #host: DirectHost;
  readonly #ways: readonly Way[];
  #broken: Error | undefined;

  /**
   * Opens channels among a group, all of whose ranks call this at the same place among their operations.
   * @returns undefined, on all of them, where one cannot see another's memory
   */
  static open(group: Group, host: DirectHost): DirectExchange | undefined {
    const memory = ChannelMemory.create(group.size);
    const cards = gather(group, memory?.card ?? new Array<number>(CARD_NUMBERS).fill(0));
    const ways = group.ranks.flatMap((peer, rank) => {
      const channel = rank === group.rank ? undefined : memory?.connect(group.rank, rank, cards[rank]!);
      return channel === undefined ? [] : [{ peer, channel, outgoing: [], incoming: [] }];
    });
    const sees = gather(group, [ways.length === group.size - 1 ? 1 : 0]);
    memory?.seal();
    return sees.every(([all]) => all === 1) ? new DirectExchange(group, host, ways) : undefined;
  }

  private constructor(group: Group, host: DirectHost, ways: readonly Way[]) {
    this.#group = group;
    this.#host = host;
    this.#ways = ways;
  }

  /** See `Group.allToAll`. `sequence` counts the operations of the group. */
  allToAll(
    sequence: number,
    send: CollectiveArray,
    sendRanges: readonly ElementRange[],
    receive: CollectiveArray,
    receiveRanges: readonly ElementRange[],
  ): Pending {
    if (this.#broken !== undefined) throw this.#broken;
    const start = monotonicMs();
    const { rank, ranks } = this.#group;
    const operation = new DirectOperation(sequence, dataTypeOf(send), this);
    operation.span = this.#host.blocked.record?.launch(
      'allToAll',
      ranks,
      bytesSent('allToAll', [send, sendRanges], rank, ranks.length),
      start,
    );
    const outgoing = sendRanges.map(({ start, end }) => bytesOf(send, start, end));
    const incoming = receiveRanges.map(({ start, end }) => bytesOf(receive, start, end));
    invariant(incoming[rank]!.length === outgoing[rank]!.length, SENDS_ITSELF);
    copyInto(incoming[rank]!, outgoing[rank]!);
    for (const way of this.#ways) {
      operation.add(way.outgoing, outgoing[ranks.indexOf(way.peer)]!);
      operation.add(way.incoming, incoming[ranks.indexOf(way.peer)]!);
    }
    operation.ends();
    this.move();
    this.#host.blocked.count('allToAll', start, start);
    return operation;
  }

  /** Moves what can be moved now. @returns whether anything was */
  move(): boolean {
    let moved = false;
    for (const way of this.#ways) {
      while (this.#moveOut(way)) moved = true;
      while (this.#moveIn(way)) moved = true;
    }
    return moved;
  }

  /** Whether there is more to move, which a peer may wait for: it needs the bytes, or the room that taking them makes. */
  get isUnderway(): boolean {
    return this.#ways.some(({ outgoing, incoming }) => outgoing.length + incoming.length > 0);
  }

  get isBroken(): boolean {
    return this.#broken !== undefined;
  }

  /** Blocks until the operation is done. What comes after a failure could be taken for what is missing, so it stays. */
  finish(operation: DirectOperation): void {
    const start = monotonicMs();
    const waited = new AwakeClock();
    let isReported = false;
    try {
      while (operation.isMoving) {
        if (this.#broken !== undefined) throw this.#broken;
        if (this.move()) continue;
        const waitedMs = waited.look();
        if (waitedMs > SPIN_MS) this.#rest(operation, waitedMs);
        if (waitedMs > REPORT_MS && !isReported) {
          isReported = true;
          this.#host.waitsIn(describeOperation(this.#identity(operation)));
        }
      }
    } catch (error) {
      this.#broken ??= error as Error;
      throw error;
    } finally {
      if (isReported) this.#host.waitsIn(undefined);
      this.#host.blocked.count('allToAll', start, operation.begun);
    }
  }

  /** Leaves the processor to others for a moment; ends a wait in which nothing can come any more. */
  #rest(operation: DirectOperation, waitedMs: number): void {
    rest(waitedMs);
    const { ranks } = this.#group;
    this.#host.checkAlive(ranks);
    if (waitedMs > this.#host.limitMs) throw this.#timeout(operation);
  }

  #moveOut({ channel, outgoing }: Way): boolean {
    const [stream] = outgoing;
    if (stream === undefined || !channel.hasRoom) return false;
    const { operation, bytes, moved } = stream;
    const piece = bytes.subarray(moved, moved + channel.slotBytes);
    if (moved === 0) operation.begins();
    channel.put({ ...operation.header(bytes.length), length: piece.length }, piece);
    advance(stream, outgoing, piece.length);
    return true;
  }

  #moveIn(way: Way): boolean {
    const { channel, incoming } = way;
    const [stream] = incoming;
    const piece = stream && channel.next();
    if (piece === undefined || this.#broken !== undefined) return false;
    const { operation, bytes, moved } = stream!;
    const expected = operation.header(bytes.length);
    if (
      piece.sequence !== expected.sequence ||
      piece.dataType !== expected.dataType ||
      piece.total !== expected.total
    ) {
      this.#broken = this.#mismatch(way.peer, piece, expected);
      return false;
    }
    if (moved === 0) operation.begins();
    channel.take(bytes.subarray(moved, moved + piece.length));
    advance(stream!, incoming, piece.length);
    return true;
  }

  #identity({ sequence }: DirectOperation) {
    return { name: 'allToAll', ranks: this.#group.ranks, sequence } as const;
  }

  #mismatch(peer: number, there: Described, here: Described): SluiceError {
    const describe = ({ sequence, total, dataType }: Described) =>
      `operation ${sequence}, allToAll of ${total} bytes (${DATA_TYPES[dataType]})`;
    return new SluiceError(
      'SLUICE_E_COLLECTIVE_MISMATCH',
      `Rank ${peer} has ${describe(there)} where this rank has ${describe(here)}, in group [${this.#group.ranks.join(', ')}].`,
      { details: { peer, sequence: here.sequence } },
    );
  }

  #timeout(operation: DirectOperation): SluiceError {
    const missing = new Map<number, string>();
    for (const { peer, incoming, outgoing } of this.#ways) {
      const coming = incoming.find((stream) => stream.operation === operation);
      const going = outgoing.find((stream) => stream.operation === operation);
      if (coming) missing.set(peer, `${coming.moved} of ${coming.bytes.length} bytes came from it`);
      else if (going)
        missing.set(peer, `it takes no more than ${going.moved} of ${going.bytes.length} bytes`);
    }
    const { ranks, rank } = this.#group;
    return timeoutError(ranks[rank]!, this.#host.limitMs, this.#identity(operation), missing);
  }
}

type Described = Omit<PieceHeader, 'length'>;

/** An operation is done when all of its streams have been moved. */
class DirectOperation implements Pending {
  readonly #exchange: DirectExchange;
  readonly #sequence: number;
  readonly #dataType: number;
  readonly #streams: Stream[] = [];
  #toBegin = 0;
  /** When something had been moved from and to every peer; before, one of them may not be there yet. */
  begun = Number.NEGATIVE_INFINITY;
  /** Where it is noted what became of it, if anybody wants to know. */
  span: OperationSpan | undefined;

  constructor(sequence: number, dataType: ArrayType, exchange: DirectExchange) {
    this.#sequence = sequence;
    this.#dataType = DATA_TYPES.indexOf(dataType);
    this.#exchange = exchange;
  }

  get sequence(): number {
    return this.#sequence;
  }

  /** Puts a stream in line, unless it is empty. */
  add(line: Stream[], bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    const stream = { operation: this, bytes, moved: 0 };
    line.push(stream);
    this.#streams.push(stream);
    this.#toBegin += 1;
    this.begun = Number.POSITIVE_INFINITY;
  }

  /** The first bytes of one more stream are about to be moved. */
  begins(): void {
    this.#toBegin -= 1;
    if (this.#toBegin === 0) this.begun = monotonicMs();
  }

  /** Notes the end, if this is it. */
  ends(): void {
    if (this.span === undefined || this.isMoving) return;
    this.span.begun = this.begun;
    this.span.ended = monotonicMs();
  }

  header(total: number): Described {
    return { sequence: this.#sequence, dataType: this.#dataType, total };
  }

  get isMoving(): boolean {
    return this.#streams.some(({ moved, bytes }) => moved < bytes.length);
  }

  get done(): boolean {
    if (this.isMoving) this.#exchange.move();
    return this.#exchange.isBroken || !this.isMoving;
  }

  wait(): void {
    this.#exchange.finish(this);
  }
}

function advance(stream: Stream, line: Stream[], bytes: number): void {
  stream.moved += bytes;
  if (stream.moved < stream.bytes.length) return;
  line.shift();
  stream.operation.ends();
}

/** The numbers of every rank, all of which give equally many. */
function gather(group: Group, own: readonly number[]): number[][] {
  const all = sharedInt32(group.size * own.length);
  const ranges = consecutiveRanges(group.ranks.map(() => own.length));
  all.set(own, ranges[group.rank]!.start);
  group.allGather(all, ranges).wait();
  return ranges.map(({ start, end }) => [...all.subarray(start, end)]);
}
