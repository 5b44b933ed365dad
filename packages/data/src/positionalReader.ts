import { closeSync, openSync, readSync } from 'node:fs';
import { damaged } from './manifest.ts';

/** Reads pieces of a file at given places into one buffer, which the next read reuses. The file is opened when needed. */
export class PositionalReader {
  readonly #path: string;
  #file: number | null = null;
  #buffer = Buffer.alloc(256);

  constructor(path: string) {
    this.#path = path;
  }

  /**
   * @returns the bytes, good until the next read
   * @throws SluiceError SLUICE_E_DATA_DAMAGED when the file is missing or too short
   */
  read(position: number, length: number): Buffer {
    if (this.#buffer.length < length) this.#buffer = Buffer.alloc(length);
    const file = this.#open();
    for (let done = 0; done < length; ) {
      const count = readSync(file, this.#buffer, done, length - done, position + done);
      if (count === 0) throw damaged(this.#path, `it ends before byte ${position + length}`);
      done += count;
    }
    return this.#buffer.subarray(0, length);
  }

  close(): void {
    if (this.#file !== null) closeSync(this.#file);
    this.#file = null;
  }

  #open(): number {
    try {
      this.#file ??= openSync(this.#path, 'r');
      return this.#file;
    } catch (error) {
      throw damaged(this.#path, 'it cannot be opened', error);
    }
  }
}
