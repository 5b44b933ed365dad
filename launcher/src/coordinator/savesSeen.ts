/** What has become of this invocation's saves so far: requested, staged in memory, durable, failed. */

import { z } from 'zod';

const step = z.int().min(0).nullable();

/** Null for what there was not yet. */
export const SavesReport = z.object({
  /** Step of the newest save that was asked for. */
  requested: step,
  /** Of the newest whose state was copied to memory. */
  staged: step,
  /** Of the newest that is durable. */
  durable: step,
  /** How long training stood still for the newest, and how long it took until it was durable, seconds. */
  stallSeconds: z.number().nullable(),
  durableSeconds: z.number().nullable(),
  /** Attempts that failed since the last that did not, and what the newest of them met. */
  failures: z.int().min(0),
  lastFailure: z.string().nullable(),
});
export type SavesReport = z.infer<typeof SavesReport>;

export class SavesSeen {
  #report: SavesReport = {
    ...{ requested: null, staged: null, durable: null, stallSeconds: null, durableSeconds: null },
    ...{ failures: 0, lastFailure: null },
  };
  #told: SavesReport = this.#report;

  note(what: Partial<SavesReport>): void {
    this.#report = { ...this.#report, ...what };
  }

  noteFailure(lastFailure: string): void {
    this.note({ failures: this.#report.failures + 1, lastFailure });
  }

  get report(): SavesReport {
    return this.#report;
  }

  /** What there is to tell, if that is news. */
  news(): SavesReport | undefined {
    if (this.#told === this.#report) return undefined;
    this.#told = this.#report;
    return this.#report;
  }
}
