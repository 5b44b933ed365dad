/**
 * Standard output and standard error that end no run. A log file on a full disk, a terminal that is gone, a `tee` that the same
 * Ctrl-C has ended: what cannot be written is left out, and where writing works again, a line says how much.
 */

import { fstatSync, writeSync } from 'node:fs';
import { Writable } from 'node:stream';
import { isatty } from 'node:tty';

/** Puts such streams in the place of this process's own. */
export function outliveOutput(): { readonly out: Writable; readonly err: Writable } {
  const [out, err] = [outliving(process.stdout, 1), outliving(process.stderr, 2)];
  Object.defineProperty(process, 'stdout', { value: out, configurable: true });
  Object.defineProperty(process, 'stderr', { value: err, configurable: true });
  return { out, err };
}

function outliving(stream: NodeJS.WriteStream, descriptor: 1 | 2): Writable {
  if (isFileOrDevice(descriptor)) return new FileOutput(descriptor);
  // A pipe or a terminal without its other end does not come back; Node closes the stream at the first error.
  stream.on('error', () => {});
  return stream;
}

function isFileOrDevice(descriptor: number): boolean {
  try {
    const status = fstatSync(descriptor);
    return status.isFile() || (status.isCharacterDevice() && !isatty(descriptor));
  } catch {
    return false;
  }
}

/** A file that is written at once, or left out. Node's own stream of it would write nothing more after one error. */
export class FileOutput extends Writable {
  readonly fd: number;
  readonly #write: (bytes: Uint8Array) => number;
  #lostLines = 0;
  #reason = '';
  /** Whether a line was cut off in the middle. */
  #torn = false;

  /** @param write a test's, in place of the system's */
  constructor(descriptor: number, write = (bytes: Uint8Array) => writeSync(descriptor, bytes)) {
    super({ decodeStrings: true });
    this.fd = descriptor;
    this.#write = write;
  }

  /** Lines that could not be written and were not owned up to since. */
  get lostLines(): number {
    return this.#lostLines;
  }

  /** Why the last of them was lost, in the system's words. */
  get reason(): string {
    return this.#reason;
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    if (!this.ownUp() || !this.#attempt(chunk)) this.#lostLines += linesOf(chunk);
    done();
  }

  /** Says how many lines are missing, if any are and it can be written. @returns whether none are now */
  ownUp(): boolean {
    if (this.#lostLines === 0) return true;
    const [count, noun] = [this.#lostLines, this.#lostLines === 1 ? 'line' : 'lines'];
    const notice = `${this.#torn ? '\n' : ''}(${count} ${noun} could not be written here: ${this.#reason})\n`;
    if (!this.#attempt(Buffer.from(notice))) return false;
    this.#lostLines = 0;
    return true;
  }

  #attempt(bytes: Uint8Array): boolean {
    let written = 0;
    try {
      while (written < bytes.length) written += this.#write(bytes.subarray(written));
      this.#torn = false;
      return true;
    } catch (error) {
      this.#reason = (error as NodeJS.ErrnoException).code ?? String(error);
      this.#torn ||= written > 0;
      return false;
    }
  }
}

function linesOf(chunk: Buffer): number {
  return Math.max(1, chunk.filter((byte) => byte === 0x0a).length);
}
