/** The metrics of a run that another process is writing. */

import { closeSync, fstatSync, openSync, readSync } from 'node:fs';

/**
 * Reads what has been added since it was asked last. A run that goes on from a checkpoint takes lines back and may have written
 * more since then: what does not go on from what was read is read from the beginning.
 */
export class FollowedMetrics {
  /** Nats a token, in the order of the steps; null where a loss was no number. */
  readonly losses: (number | null)[] = [];
  readonly #path: string;
  #lastStep = 0;
  #offset = 0;
  #rest = '';

  constructor(path: string) {
    this.#path = path;
  }

  /** 0 before the first. */
  get lastStep(): number {
    return this.#lastStep;
  }

  /** A file that is not there yet has no steps. */
  read(): void {
    let file: number;
    try {
      file = openSync(this.#path, 'r');
    } catch {
      return;
    }
    try {
      const { size } = fstatSync(file);
      if (size >= this.#offset && this.#readOn(file, size)) return;
      this.#startOver();
      this.#readOn(file, size);
    } finally {
      closeSync(file);
    }
  }

  #startOver(): void {
    this.#lastStep = 0;
    this.#offset = 0;
    this.#rest = '';
    this.losses.length = 0;
  }

  /** @returns whether what has come goes on from what was read */
  #readOn(file: number, size: number): boolean {
    const added = Buffer.alloc(size - this.#offset);
    this.#offset += readSync(file, added, 0, added.length, this.#offset);
    const lines = (this.#rest + added.toString()).split('\n');
    this.#rest = lines.pop()!;
    return lines.every((line) => this.#take(line));
  }

  #take(line: string): boolean {
    const { step, loss } = parsed(line);
    if (typeof step !== 'number' || step <= this.#lastStep) return false;
    this.#lastStep = step;
    this.losses.push(typeof loss === 'number' ? loss : null);
    return true;
  }
}

/** Nothing of a line that begins in the middle of another. */
function parsed(line: string): { readonly step?: unknown; readonly loss?: unknown } {
  try {
    return JSON.parse(line) as object;
  } catch {
    return {};
  }
}
