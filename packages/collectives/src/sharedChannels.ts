/**
 * Queues between the main threads of processes on one host, in memory that they share: each rank has memory of its own,
 * which it alone writes and its peers map. In it lie, for each peer, the slots of the channel to that peer, and how many
 * slots of the channel from that peer have been read.
 *
 * The memory is a file of the memory file system that never has a name: peers open it by the descriptor of the process
 * that made it. So nothing stays behind, however a process ends.
 */

import { randomInt } from 'node:crypto';
import { closeSync, constants, fstatSync, openSync, writeSync } from 'node:fs';
import { mapFile } from '@sluice/engine/fileMapping';
import { copyInto } from '@sluice/engine/memory';

const MEMORY_FILE_SYSTEM = '/dev/shm';

/** The flag of open(2) for a file without a name, which Node does not list: __O_TMPFILE of Linux. */
const NAMELESS = 0o20000000 | constants.O_DIRECTORY;

/** Slots of a channel: one is read while others are written. */
const SLOTS = 4;

/** What the slots of all channels of a rank may take together, as long as each has the least that makes sense, bytes. */
const SLOT_BYTES_OF_RANK = 4 << 20;
const LEAST_SLOT_BYTES = 1 << 16;

const PAGE_BYTES = 4096;

/** Of each channel: two counters, each on a cache line of its own, then the headers of the slots. */
const CONTROL_BYTES = 256;
const WRITTEN_WORD = 0;
const READ_WORD = 16;
const HEADERS_BYTE = 128;
const HEADER_NUMBERS = 4;

/** Marks the memory, so that nobody takes another file for it. */
const MARK_BYTES = PAGE_BYTES;
const MARK_WORDS = 2;

/** What is in a slot: a piece of a stream. */
export interface PieceHeader {
  /** Of the operation. */
  readonly sequence: number;
  /** Index of the type of its elements. */
  readonly dataType: number;
  /** Bytes of the whole stream. */
  readonly total: number;
  /** Bytes in this slot. */
  readonly length: number;
}

/** What a peer needs to open a rank's memory: process, descriptor, mark. All zero where there is none. */
export const CARD_NUMBERS = 2 + MARK_WORDS;

/** Where things lie in the memory of a rank of a group. */
class Layout {
  readonly slotBytes: number;
  readonly bytes: number;
  readonly #peers: number;
  readonly #slots: number;

  constructor(size: number) {
    this.#peers = size - 1;
    const share = Math.floor(SLOT_BYTES_OF_RANK / (SLOTS * this.#peers * PAGE_BYTES)) * PAGE_BYTES;
    this.slotBytes = Math.max(LEAST_SLOT_BYTES, share);
    this.#slots = MARK_BYTES + Math.ceil((this.#peers * CONTROL_BYTES) / PAGE_BYTES) * PAGE_BYTES;
    this.bytes = this.#slots + this.#peers * SLOTS * this.slotBytes;
  }

  /** @param index of a channel, of one end among its peers */
  control(index: number): number {
    return MARK_BYTES + index * CONTROL_BYTES;
  }

  slot(index: number, slot: number): number {
    return this.#slots + (index * SLOTS + slot) * this.slotBytes;
  }
}

/** One end's view of the channel between two ranks, in the memory of one of them. */
class ChannelView {
  readonly counters: Int32Array;
  readonly headers: Float64Array;
  readonly slots: readonly Uint8Array[];

  constructor(memory: ArrayBuffer, layout: Layout, index: number) {
    const control = layout.control(index);
    this.counters = new Int32Array(memory, control, HEADERS_BYTE / 4);
    this.headers = new Float64Array(memory, control + HEADERS_BYTE, SLOTS * HEADER_NUMBERS);
    this.slots = Array.from(
      { length: SLOTS },
      (_, slot) => new Uint8Array(memory, layout.slot(index, slot), layout.slotBytes),
    );
  }
}

/** Both directions between this rank and one peer. */
export class Channel {
  readonly #own: ChannelView;
  readonly #theirs: ChannelView;
  readonly slotBytes: number;
  #written = 0;
  #read = 0;

  constructor(own: ChannelView, theirs: ChannelView, slotBytes: number) {
    this.#own = own;
    this.#theirs = theirs;
    this.slotBytes = slotBytes;
  }

  /** Whether a slot is free. */
  get hasRoom(): boolean {
    return ((this.#written - Atomics.load(this.#theirs.counters, READ_WORD)) & COUNTER_MASK) < SLOTS;
  }

  /** Copies a piece, of at most `slotBytes`, into a free slot. */
  put({ sequence, dataType, total, length }: PieceHeader, bytes: Uint8Array): void {
    const slot = this.#written % SLOTS;
    this.#own.headers.set([sequence, dataType, total, length], slot * HEADER_NUMBERS);
    copyInto(this.#own.slots[slot]!, bytes);
    this.#written = (this.#written + 1) & COUNTER_MASK;
    Atomics.store(this.#own.counters, WRITTEN_WORD, this.#written);
  }

  /** What the next piece is; undefined when none has come. */
  next(): PieceHeader | undefined {
    if (Atomics.load(this.#theirs.counters, WRITTEN_WORD) === this.#read) return undefined;
    const start = (this.#read % SLOTS) * HEADER_NUMBERS;
    const [sequence, dataType, total, length] = this.#theirs.headers.subarray(start, start + HEADER_NUMBERS);
    return { sequence: sequence!, dataType: dataType!, total: total!, length: length! };
  }

  /** Copies the next piece, as long as `target`, and frees its slot. */
  take(target: Uint8Array): void {
    copyInto(target, this.#theirs.slots[this.#read % SLOTS]!.subarray(0, target.length));
    this.#read = (this.#read + 1) & COUNTER_MASK;
    Atomics.store(this.#own.counters, READ_WORD, this.#read);
  }
}

/** Counters go round within what an Int32 holds, at a multiple of the number of slots. */
const COUNTER_MASK = 0x3fffffff;

/** A rank's own memory, before its peers are known. */
export class ChannelMemory {
  readonly #file: number;
  readonly #memory: ArrayBuffer;
  readonly #layout: Layout;
  readonly #size: number;
  /** What peers open it by. */
  readonly card: readonly number[];

  /** @returns undefined where there is no memory file system, it is full, or the C++ core is missing */
  static create(groupSize: number): ChannelMemory | undefined {
    const layout = new Layout(groupSize);
    let file: number | undefined;
    try {
      file = openSync(MEMORY_FILE_SYSTEM, NAMELESS | constants.O_RDWR, 0o600);
      // Takes the memory now, so that a small file system says so here, not in the middle of a run.
      const zeros = new Uint8Array(Math.min(layout.bytes, 1 << 20));
      for (let written = 0; written < layout.bytes; ) {
        const length = Math.min(zeros.length, layout.bytes - written);
        written += writeSync(file, zeros, 0, length, written);
      }
      const memory = mapFile(file, layout.bytes, true);
      if (memory !== undefined) return new ChannelMemory(file, memory, layout, groupSize);
    } catch {}
    if (file !== undefined) closeSync(file);
    return undefined;
  }

  private constructor(file: number, memory: ArrayBuffer, layout: Layout, size: number) {
    this.#file = file;
    this.#memory = memory;
    this.#layout = layout;
    this.#size = size;
    const mark = Array.from({ length: MARK_WORDS }, () => randomInt(1, 2 ** 31));
    new Int32Array(memory).set(mark);
    this.card = [process.pid, file, ...mark];
  }

  /**
   * The channel to the rank with this card.
   * @param rank own rank within the group
   * @returns undefined when the peer's memory is not to be seen from here
   */
  connect(rank: number, peer: number, card: readonly number[]): Channel | undefined {
    const theirs = openMemory(card, this.#layout.bytes);
    if (theirs === undefined) return undefined;
    return new Channel(
      new ChannelView(this.#memory, this.#layout, this.#indexOf(rank, peer)),
      new ChannelView(theirs, this.#layout, this.#indexOf(peer, rank)),
      this.#layout.slotBytes,
    );
  }

  /** All peers have opened it: the descriptor can go, the memory stays mapped. */
  seal(): void {
    closeSync(this.#file);
  }

  #indexOf(owner: number, peer: number): number {
    return ((peer - owner + this.#size) % this.#size) - 1;
  }
}

function openMemory([pid, descriptor, ...mark]: readonly number[], bytes: number): ArrayBuffer | undefined {
  let file: number | undefined;
  try {
    // What another process has there on another host may be anything, so nothing must block or be written.
    file = openSync(`/proc/${pid}/fd/${descriptor}`, constants.O_RDONLY | constants.O_NONBLOCK);
    const status = fstatSync(file);
    const memory = status.isFile() && status.size === bytes ? mapFile(file, bytes, false) : undefined;
    const isTheirs =
      memory !== undefined && new Int32Array(memory, 0, mark.length).every((w, i) => w === mark[i]);
    return isTheirs ? memory : undefined;
  } catch {
    return undefined;
  } finally {
    if (file !== undefined) closeSync(file);
  }
}
