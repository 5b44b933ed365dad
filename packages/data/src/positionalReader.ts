import { closeSync, openSync, readSync } from 'node:fs';
import { damaged } from './manifest.ts';

/** Reads pieces of a file at given places into one buffer, which the next read reuses. The file is opened when needed. */
export class PositionalReader {
  readonly #path: string;
  readonly #onOpen: () => void;
  #file: number | null = null;
  #buffer = Buffer.alloc(256);

  /** @param onOpen called when the file was opened; what it throws, `read` throws */
  constructor(path: string, onOpen: () => void) {
    this.#path = path;
    this.#onOpen = onOpen;
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
    if (this.#file !== null) return this.#file;
    try {
      this.#file = openSync(this.#path, 'r');
    } catch (error) {
      this.#onOpen();
      const { code } = error as NodeJS.ErrnoException;
      throw damaged(this.#path, `it cannot be opened (${code})`, error);
    }
    this.#onOpen();
    return this.#file;
  }
}
