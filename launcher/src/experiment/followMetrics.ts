/** The metrics of a run that another process is writing. */

import { closeSync, fstatSync, openSync, readSync } from 'node:fs';

export interface FollowedStep {
  readonly step: number;
  /** Nats a token; null where it was no number. */
  readonly loss: number | null;
}

/** Reads what has been added since it was asked last; forgets what a run that was resumed has taken back. */
export class FollowedMetrics {
  readonly steps: FollowedStep[] = [];
  readonly #path: string;
  #offset = 0;
  #rest = '';

  constructor(path: string) {
    this.#path = path;
  }

  get last(): FollowedStep | undefined {
    return this.steps.at(-1);
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
      if (size < this.#offset) this.#startOver();
      const added = Buffer.alloc(size - this.#offset);
      this.#offset += readSync(file, added, 0, added.length, this.#offset);
      const lines = (this.#rest + added.toString()).split('\n');
      this.#rest = lines.pop()!;
      for (const line of lines) this.#take(line);
    } finally {
      closeSync(file);
    }
  }

  #startOver(): void {
    this.#offset = 0;
    this.#rest = '';
    this.steps.length = 0;
  }

  #take(line: string): void {
    const { step, loss } = JSON.parse(line) as FollowedStep;
    while ((this.last?.step ?? 0) >= step) this.steps.pop();
    this.steps.push({ step, loss: typeof loss === 'number' ? loss : null });
  }
}
