/** Files that training does not depend on: where one cannot be written, training goes on, and the gap is counted. */

import { SluiceError } from '@sluice/core';

export class OptionalFile {
  readonly #name: string;
  readonly #tell: (text: string) => void;
  #missing = 0;

  /** @param tell says to people when lines begin to be missing, and when they are written again */
  constructor(name: string, tell: (text: string) => void) {
    this.#name = name;
    this.#tell = tell;
  }

  /** Has the line of a step written, if that can be done. Errors without a code are thrown on. */
  write(step: number, append: () => void): void {
    try {
      append();
    } catch (error) {
      if (!(error instanceof SluiceError)) throw error;
      this.#missing++;
      if (this.#missing === 1) {
        this.#tell(`${error.message} Training goes on; ${this.#name} has no lines from step ${step} on.`);
      }
      return;
    }
    if (this.#missing > 0) this.#tell(`${this.#name} is written again at step ${step}; ${this.#lack()}.`);
    this.#missing = 0;
  }

  /** Says what is missing at the end. */
  close(): void {
    if (this.#missing > 0) this.#tell(`${this.#name}: ${this.#lack()} at its end.`);
    this.#missing = 0;
  }

  #lack(): string {
    return this.#missing === 1 ? '1 line is missing' : `${this.#missing} lines are missing`;
  }
}
