import { createHash, type Hash } from 'node:crypto';
import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs';
import { basename } from 'node:path';
import { writeError } from '@sluice/core';
import type { FileEntry } from './manifest.ts';

const BUFFER_BYTES = 1 << 18;

/** A new file that is written from front to back through a buffer of fixed size, and hashed on the way. */
export class StreamWriter {
  readonly #path: string;
  readonly #file: number;
  readonly #hash: Hash = createHash('sha256');
  readonly #buffer = Buffer.alloc(BUFFER_BYTES);
  #used = 0;
  #written = 0;
  #open = true;

  constructor(path: string) {
    this.#path = path;
    try {
      this.#file = openSync(path, 'w');
    } catch (error) {
      throw writeError(path, error);
    }
  }

  /** Bytes taken so far. */
  get length(): number {
    return this.#written + this.#used;
  }

  /** Room for `bytes` bytes, at most a buffer's, for the caller to fill before anything else is written. */
  reserve(bytes: number): { buffer: Buffer; offset: number } {
    if (this.#used + bytes > BUFFER_BYTES) this.#flush();
    const offset = this.#used;
    this.#used += bytes;
    return { buffer: this.#buffer, offset };
  }

  write(bytes: Uint8Array): void {
    for (let start = 0; start < bytes.length; start += BUFFER_BYTES) {
      const piece = bytes.subarray(start, start + BUFFER_BYTES);
      const { buffer, offset } = this.reserve(piece.length);
      buffer.set(piece, offset);
    }
  }

  /** Writes what is left, forces it to the disk, and tells the file's length and hash. */
  finish(): FileEntry {
    this.#flush();
    try {
      fsyncSync(this.#file);
    } catch (error) {
      throw writeError(this.#path, error);
    }
    this.abandon();
    return { file: basename(this.#path), bytes: this.#written, sha256: this.#hash.digest('hex') };
  }

  /** Closes the file, finished or not. */
  abandon(): void {
    if (this.#open) closeSync(this.#file);
    this.#open = false;
  }

  #flush(): void {
    const bytes = this.#buffer.subarray(0, this.#used);
    this.#hash.update(bytes);
    try {
      for (let done = 0; done < bytes.length; ) done += writeSync(this.#file, bytes, done);
    } catch (error) {
      throw writeError(this.#path, error);
    }
    this.#written += this.#used;
    this.#used = 0;
  }
}
