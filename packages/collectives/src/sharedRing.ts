/**
 * A ring of slots in memory that the processes of one host share: a sender lays a payload into a slot and sends only
 * its place, the receiver reads it straight to where it belongs. A socket would copy as often, but in small pieces,
 * into memory that was never touched before; the slots stay in the processor's cache.
 *
 * The memory is an unlinked file of the memory file system, so nothing stays behind when a process is killed once all have opened
 * it. With the C++ core it is mapped; without, it is read and written through the system.
 */

import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { processSpace, sha256 } from '@sluice/core';
import { mapFile } from '@sluice/engine/fileMapping';
import { copyInto } from '@sluice/engine/memory';
import { MemoryPayload, type Payload } from './transport.ts';

const MEMORY_FILE_SYSTEM = '/dev/shm';

/** Slots of each sender, for all its receivers together: one is read while the next is written. */
const SLOTS = 2;

/** Pieces of memory that are held ready for payloads that move out of a ring. */
const MOST_SPARES = 16;

function ringPrefix(): string {
  return `sluice-ring-${processSpace()}-`;
}

/** The name cannot be guessed without the run's secret. */
function ringPath(token: string, rank: number): string {
  return join(MEMORY_FILE_SYSTEM, ringPrefix() + sha256(`${token}:${rank}`).slice(0, 32));
}

/** Removes what workers that were killed while they started may have left. */
export function removeRings(token: string, ranks: readonly number[]): void {
  for (const rank of ranks) rmSync(ringPath(token, rank), { force: true });
}

/** Removes the rings of workers that were killed while they started, together with who would have removed them: nobody has those open. */
export function sweepRings(folder: string = MEMORY_FILE_SYSTEM): void {
  const rings = namesIn(folder).filter((name) => name.startsWith(ringPrefix()));
  if (rings.length === 0) return;
  const open = openFiles();
  for (const path of rings.map((name) => join(folder, name))) {
    try {
      if (!open.has(path)) rmSync(path, { force: true });
    } catch {
      // Another user's.
    }
  }
}

/** The paths of all files that processes have open, as far as this one may see them. */
function openFiles(): Set<string> {
  const paths = new Set<string>();
  for (const pid of namesIn('/proc').filter((name) => /^\d+$/.test(name))) {
    for (const descriptor of namesIn(`/proc/${pid}/fd`)) {
      try {
        paths.add(readlinkSync(`/proc/${pid}/fd/${descriptor}`));
      } catch {
        // It was closed meanwhile.
      }
    }
  }
  return paths;
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

/** The sender's side: hands out slots and waits while all are in use. */
export class RingWriter {
  readonly #memory: RingMemory;
  readonly #slotBytes: number;
  readonly #free = Array.from({ length: SLOTS }, (_, slot) => slot);
  readonly #waiting: (() => void)[] = [];
  #path: string | undefined;

  /** @returns undefined where there is no memory file system, or it is full */
  static open(token: string, rank: number, slotBytes: number): RingWriter | undefined {
    const path = ringPath(token, rank);
    try {
      const file = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600);
      try {
        ftruncateSync(file, SLOTS * slotBytes);
        // Takes the memory now, so that a small file system says so here, not in the middle of a run.
        const empty = new Uint8Array(slotBytes);
        for (let slot = 0; slot < SLOTS; slot++) writeSync(file, empty, 0, slotBytes, slot * slotBytes);
      } catch {
        closeSync(file);
        rmSync(path);
        return undefined;
      }
      return new RingWriter(new RingMemory(file, SLOTS * slotBytes, true), path, slotBytes);
    } catch {
      return undefined;
    }
  }

  private constructor(memory: RingMemory, path: string, slotBytes: number) {
    this.#memory = memory;
    this.#path = path;
    this.#slotBytes = slotBytes;
  }

  /** Copies `bytes` into a free slot and returns its place. */
  async put(bytes: Uint8Array): Promise<number> {
    while (this.#free.length === 0) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    const place = this.#free.pop()! * this.#slotBytes;
    this.#memory.write(bytes, place);
    return place;
  }

  /** The receiver of the bytes at `place` needs them no more. */
  release(place: number): void {
    this.#free.push(place / this.#slotBytes);
    this.#waiting.shift()?.();
  }

  /** All receivers have opened it: its name can go. */
  unlink(): void {
    if (this.#path !== undefined) rmSync(this.#path, { force: true });
    this.#path = undefined;
  }

  close(): void {
    this.unlink();
    this.#memory.close();
  }
}

/** The receiver's side of one sender's ring. */
export class RingReader {
  readonly #memory: RingMemory;

  /** @returns undefined when the sender's ring is not to be seen from here */
  static open(token: string, rank: number): RingReader | undefined {
    try {
      const file = openSync(ringPath(token, rank), 'r');
      return new RingReader(new RingMemory(file, fstatSync(file).size, false));
    } catch {
      return undefined;
    }
  }

  private constructor(memory: RingMemory) {
    this.#memory = memory;
  }

  payload(place: number, byteLength: number, onRelease: () => void): Payload {
    return new RingPayload(this.#memory, place, byteLength, onRelease);
  }

  close(): void {
    this.#memory.close();
  }
}

class RingPayload implements Payload {
  readonly byteLength: number;
  readonly #memory: RingMemory;
  readonly #place: number;
  readonly #onRelease: () => void;

  constructor(memory: RingMemory, place: number, byteLength: number, onRelease: () => void) {
    this.byteLength = byteLength;
    this.#memory = memory;
    this.#place = place;
    this.#onRelease = onRelease;
  }

  view(start: number, length: number, scratch: Uint8Array): Uint8Array {
    return this.#memory.view(this.#place + start, length, scratch);
  }

  copyTo(target: Uint8Array): void {
    this.#memory.read(target.subarray(0, this.byteLength), this.#place);
  }

  /** Slots are few, and others may need them for what this payload waits for: what is kept moves out. */
  keep(): Payload {
    const kept = KeptPayload.copyOf(this);
    this.release();
    return kept;
  }

  release(): void {
    this.#onRelease();
  }
}

/** A payload that has moved out of its ring. Its memory is used again: fresh memory costs more than the copy. */
class KeptPayload extends MemoryPayload {
  static readonly #spare: Uint8Array[] = [];
  readonly #memory: Uint8Array;

  static copyOf(payload: Payload): KeptPayload {
    const spare = KeptPayload.#spare.pop();
    const fits = spare !== undefined && spare.length >= payload.byteLength;
    return new KeptPayload(fits ? spare : new Uint8Array(payload.byteLength), payload);
  }

  private constructor(memory: Uint8Array, payload: Payload) {
    super(memory.subarray(0, payload.byteLength));
    payload.copyTo(memory);
    this.#memory = memory;
  }

  override release(): void {
    if (KeptPayload.#spare.length < MOST_SPARES) KeptPayload.#spare.push(this.#memory);
  }
}

/** The bytes of a ring, mapped where that is possible. */
class RingMemory {
  readonly #file: number;
  readonly #mapped: Uint8Array | undefined;

  constructor(file: number, byteLength: number, writable: boolean) {
    this.#file = file;
    const memory = mapFile(file, byteLength, writable);
    this.#mapped = memory && new Uint8Array(memory);
  }

  write(bytes: Uint8Array, place: number): void {
    if (this.#mapped !== undefined) copyInto(this.#mapped.subarray(place), bytes);
    else writeSync(this.#file, bytes, 0, bytes.length, place);
  }

  read(target: Uint8Array, place: number): void {
    if (this.#mapped !== undefined) copyInto(target, this.#mapped.subarray(place, place + target.length));
    else readSync(this.#file, target, 0, target.length, place);
  }

  view(place: number, length: number, scratch: Uint8Array): Uint8Array {
    if (this.#mapped !== undefined) return this.#mapped.subarray(place, place + length);
    readSync(this.#file, scratch, 0, length, place);
    return scratch.subarray(0, length);
  }

  close(): void {
    closeSync(this.#file);
  }
}
