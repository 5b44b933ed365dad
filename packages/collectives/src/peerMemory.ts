/**
 * Payloads that stay where they are: a rank of the same host is told where bytes lie in the sender's memory, and reads them there, once,
 * straight to where they belong or into a block that is added. No copy is made to hand them over, and nothing has to be freed.
 *
 * It takes Linux, the C++ core, and a system that lets a process read others of its user; a rank finds out by reading a mark. Without
 * huge pages, reading is slower than the ring (`sharedRing.ts`), which is used then: where the system does not grant them, and by a rank
 * that gets none when it begins, since memory is in small pieces.
 */

import { readFileSync } from 'node:fs';
import { sha256 } from '@sluice/core';
import { addressOf, getsHugePages, letRead, readProcess } from '@sluice/engine/processMemory';
import type { Payload } from './transport.ts';

const MARK_BYTES = 32;

const HUGE_PAGES = '/sys/kernel/mm/transparent_hugepage/enabled';

/** What nobody else has in its memory. */
function markOf(token: string, rank: number): Buffer {
  return Buffer.from(sha256(`${token}:${rank}:memory`), 'hex');
}

/** A rank's own memory, for its peers to read. */
export class OwnMemory {
  /** Held as long as this is, so that it stays where it is. */
  readonly mark: Uint8Array;
  readonly markAddress: number;

  /** @returns undefined where no process can read another */
  static open(token: string, rank: number): OwnMemory | undefined {
    if (!grantsHugePages() || !getsHugePages()) return undefined;
    const mark = new Uint8Array(new SharedArrayBuffer(MARK_BYTES));
    mark.set(markOf(token, rank));
    const address = addressOf(mark);
    if (address === undefined) return undefined;
    // The other ranks of this host were started by the same process.
    letRead(process.ppid);
    return new OwnMemory(mark, address);
  }

  private constructor(mark: Uint8Array, markAddress: number) {
    this.mark = mark;
    this.markAddress = markAddress;
  }

  /** Where bytes lie that are held until the operation that sends them has ended. */
  placeOf(bytes: Uint8Array): number {
    return addressOf(bytes)!;
  }
}

/** The memory of a peer. */
export class PeerMemory {
  readonly #process: number;
  readonly #onLost: () => void;

  /**
   * @param onLost told when it cannot be read any more, since the process is gone
   * @returns undefined where it cannot be read, or is another's
   */
  static open(
    { token, rank }: { readonly token: string; readonly rank: number },
    process: number,
    markAddress: number,
    onLost: () => void,
  ): PeerMemory | undefined {
    const found = new Uint8Array(MARK_BYTES);
    if (!grantsHugePages() || !readProcess(process, markAddress, found)) return undefined;
    return markOf(token, rank).equals(found) ? new PeerMemory(process, onLost) : undefined;
  }

  private constructor(process: number, onLost: () => void) {
    this.#process = process;
    this.#onLost = onLost;
  }

  payload(place: number, byteLength: number): Payload {
    return new PeerPayload(this, place, byteLength);
  }

  /** What it could not read is left as it is: the operation has failed by then. */
  read(place: number, target: Uint8Array): void {
    if (!readProcess(this.#process, place, target)) this.#onLost();
  }
}

class PeerPayload implements Payload {
  readonly byteLength: number;
  readonly #memory: PeerMemory;
  readonly #place: number;

  constructor(memory: PeerMemory, place: number, byteLength: number) {
    this.byteLength = byteLength;
    this.#memory = memory;
    this.#place = place;
  }

  view(start: number, length: number, scratch: Uint8Array): Uint8Array {
    const target = scratch.subarray(0, length);
    this.#memory.read(this.#place + start, target);
    return target;
  }

  copyTo(target: Uint8Array): void {
    this.#memory.read(this.#place, target.subarray(0, this.byteLength));
  }

  /** The sender leaves it alone until it is told that it was used. */
  keep(): Payload {
    return this;
  }

  release(): void {}
}

function grantsHugePages(): boolean {
  try {
    return !readFileSync(HUGE_PAGES, 'latin1').includes('[never]');
  } catch {
    return false;
  }
}
