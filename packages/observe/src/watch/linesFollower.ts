/**
 * Follows a file of JSON lines that another process appends to, cuts, and appends to again: what was read once is not read again,
 * but for lines that are not what they were.
 */

import { type FileHandle, open } from 'node:fs/promises';
import { setImmediate as turn } from 'node:timers/promises';

const CHUNK_BYTES = 1 << 22;
const NEWLINE = 0x0a;
/** Of a line, what tells it from another that took its place: lines begin with step and time. */
const FINGERPRINT_BYTES = 96;

export interface LinesFollowerOptions<T> {
  /** The record of a line; undefined where it is none, and is left out. */
  readonly parse: (line: string) => T | undefined;
  readonly take: (record: T) => void;
  /** Takes all records but the first ones back. */
  readonly cut: (count: number) => void;
}

type OnChunk = (bytes: number, size: number) => void | Promise<void>;

export class LinesFollower<T> {
  readonly path: string;
  readonly #options: LinesFollowerOptions<T>;
  /** Of each record: where its line starts and ends, and its fingerprint. */
  readonly #starts: number[] = [];
  readonly #ends: number[] = [];
  readonly #prints: number[] = [];
  #file: number | undefined;
  #offset = 0;
  #isClosed = false;
  /** Whole lines that are no records. */
  damagedLines = 0;

  constructor(path: string, options: LinesFollowerOptions<T>) {
    this.path = path;
    this.#options = options;
  }

  /**
   * Reads what has come since the last time. A file that is not there has no lines.
   * @param onChunk told of how much of the file is read, in turns with other work; reading waits for it
   * @returns whether anything changed
   */
  async read(onChunk: OnChunk = () => {}): Promise<boolean> {
    const handle = await openIfThere(this.path);
    if (handle === undefined) return this.#cut(0);
    try {
      const { ino, size } = await handle.stat();
      const isOther = this.#file !== undefined && this.#file !== ino;
      this.#file = ino;
      const kept = isOther ? 0 : await this.#stillThere(handle, size);
      const hasCut = this.#cut(kept);
      const hasMore = await this.#append(handle, size, onChunk);
      return hasCut || hasMore;
    } finally {
      await handle.close();
    }
  }

  /** Ends a reading that goes on. */
  close(): void {
    this.#isClosed = true;
  }

  /** How many of the first records are still what they were. */
  async #stillThere(handle: FileHandle, size: number): Promise<number> {
    const isSame = async (index: number) => {
      if (this.#ends[index]! > size) return false;
      const head = Buffer.alloc(Math.min(FINGERPRINT_BYTES, this.#ends[index]! - this.#starts[index]!));
      await handle.read(head, 0, head.length, this.#starts[index]!);
      return fingerprint(head) === this.#prints[index];
    };
    let high = this.#ends.length;
    if (high === 0 || (await isSame(high - 1))) return high;
    let low = 0;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (await isSame(middle)) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #cut(count: number): boolean {
    if (count === this.#ends.length) return false;
    this.#starts.length = this.#ends.length = this.#prints.length = count;
    this.#offset = this.#ends[count - 1] ?? 0;
    this.#options.cut(count);
    return true;
  }

  async #append(handle: FileHandle, size: number, onChunk: OnChunk): Promise<boolean> {
    const before = this.#ends.length;
    let pending: Buffer = Buffer.alloc(0);
    while (!this.#isClosed && this.#offset + pending.length < size) {
      const chunk = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, size - this.#offset - pending.length));
      const { bytesRead } = await handle.read(chunk, 0, chunk.length, this.#offset + pending.length);
      if (bytesRead === 0) break;
      pending = Buffer.concat([pending, chunk.subarray(0, bytesRead)]);
      const taken = this.#takeLines(pending);
      pending = pending.subarray(taken);
      await onChunk(this.#offset, size);
      await turn();
    }
    return this.#ends.length > before;
  }

  /** @returns how many bytes whole lines took */
  #takeLines(bytes: Buffer): number {
    let start = 0;
    for (let end = bytes.indexOf(NEWLINE); end >= 0; end = bytes.indexOf(NEWLINE, start)) {
      const record = this.#options.parse(bytes.toString('utf8', start, end));
      if (record === undefined) this.damagedLines++;
      else {
        this.#starts.push(this.#offset + start);
        this.#ends.push(this.#offset + end + 1);
        this.#prints.push(fingerprint(bytes.subarray(start, Math.min(end + 1, start + FINGERPRINT_BYTES))));
        this.#options.take(record);
      }
      start = end + 1;
    }
    this.#offset += start;
    return start;
  }
}

/** FNV-1a, 32 bits. */
function fingerprint(bytes: Uint8Array): number {
  let hash = 0x811c9dc5;
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash;
}

/**
 * Lines from evenly spread places of a file, in order: a picture of a long file at once.
 * @returns nothing where the file is not there
 */
export async function sampleLines(path: string, count: number): Promise<string[]> {
  const handle = await openIfThere(path);
  if (handle === undefined) return [];
  try {
    const { size } = await handle.stat();
    const head = Buffer.alloc(CHUNK_BYTES);
    const { bytesRead } = await handle.read(head, 0, head.length, 0);
    const lineBytes = head.subarray(0, bytesRead).indexOf(NEWLINE) + 1 || bytesRead;
    const window = Math.max(4096, 3 * lineBytes);
    const places = Array.from({ length: count }, (_, i) =>
      Math.max(0, Math.floor((i * (size - window)) / Math.max(1, count - 1))),
    );
    const lines = new Map<number, string>();
    const readAt = async (place: number) => {
      const bytes = Buffer.alloc(window);
      const read = await handle.read(bytes, 0, window, place);
      const start = place === 0 ? 0 : bytes.indexOf(NEWLINE) + 1;
      const end = bytes.subarray(0, read.bytesRead).indexOf(NEWLINE, start);
      if (end > start) lines.set(place + start, bytes.toString('utf8', start, end));
    };
    for (let i = 0; i < places.length; i += 64) await Promise.all(places.slice(i, i + 64).map(readAt));
    return [...lines].sort(([a], [b]) => a - b).map(([, line]) => line);
  } finally {
    await handle.close();
  }
}

/** The last lines of a file, as many as its last bytes hold whole. */
export async function lastLines(path: string, bytes: number): Promise<string[]> {
  const handle = await openIfThere(path);
  if (handle === undefined) return [];
  try {
    const { size } = await handle.stat();
    const start = Math.max(0, size - bytes);
    const tail = Buffer.alloc(size - start);
    const { bytesRead } = await handle.read(tail, 0, tail.length, start);
    const lines = tail.toString('utf8', 0, bytesRead).split('\n');
    // What follows the last newline is being written; what comes before the first one began earlier.
    return lines.slice(start === 0 ? 0 : 1, -1);
  } finally {
    await handle.close();
  }
}

async function openIfThere(path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path, 'r');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
