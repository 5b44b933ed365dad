/** Calls to all workers that wait for their answers, each with a limit of its own. */

import { SluiceError } from '@sluice/core';
import { awakeTimeout } from './awakeTime.ts';
import type { WaitKind } from './controlProtocol.ts';

interface Call {
  readonly method: string;
  /** In order of rank. */
  readonly results: unknown[];
  readonly waiting: Set<number>;
  /** Of workers, by rank; the first is told. */
  readonly failures: Map<number, Error>;
  readonly resolve: (results: unknown[]) => void;
  readonly reject: (error: Error) => void;
  endWait: () => void;
}

/** How long is waited for others to fail, too, once one has: a fault of all is not that one's. */
const FAILURES_GATHER_MS = 1500;

export interface CallLimit {
  readonly kind: WaitKind;
  readonly limitMs: number;
}

export class PendingCalls {
  readonly #ranks: readonly number[];
  readonly #activity: (rank: number) => string;
  readonly #calls = new Map<number, Call>();
  #next = 1;

  /** @param activity what a worker said last that it was doing */
  constructor(ranks: readonly number[], activity: (rank: number) => string) {
    this.#ranks = ranks;
    this.#activity = activity;
  }

  /**
   * Begins to wait for the answers of all workers.
   * @returns the number that they answer to, and the answers in order of rank
   */
  open(method: string, { kind, limitMs }: CallLimit): { id: number; answers: Promise<unknown[]> } {
    const id = this.#next++;
    const answers = new Promise<unknown[]>((resolve, reject) => {
      this.#calls.set(id, {
        method,
        results: new Array(this.#ranks.length),
        waiting: new Set(this.#ranks),
        failures: new Map(),
        resolve,
        reject,
        endWait: awakeTimeout(limitMs, () => this.#timeOut(id, kind, limitMs)),
      });
    });
    return { id, answers };
  }

  /** Those who have not answered, in order of rank. */
  get waitedFor(): number[] {
    const waiting = [...this.#calls.values()].flatMap((call) => [...call.waiting]);
    return [...new Set(waiting)].sort((a, b) => a - b);
  }

  /** Takes a worker's answer; one that nobody waits for is dropped. */
  answer(id: number, rank: number, value: unknown): void {
    const call = this.#calls.get(id);
    if (call === undefined || !call.waiting.delete(rank)) return;
    call.results[rank] = value;
    if (call.waiting.size > 0) return;
    if (call.failures.size > 0) this.#rejectWithFailure(id);
    else this.#finish(id)?.resolve(call.results);
  }

  /** One worker failed, and so does the call, once it is known who did not. */
  fail(id: number, rank: number, error: Error): void {
    const call = this.#calls.get(id);
    if (call === undefined || !call.waiting.delete(rank)) return;
    call.failures.set(rank, error);
    if (call.waiting.size === 0) this.#rejectWithFailure(id);
    else if (call.failures.size === 1) {
      call.endWait();
      call.endWait = awakeTimeout(FAILURES_GATHER_MS, () => this.#rejectWithFailure(id));
    }
  }

  /** Fails every call that waits for a worker, at once. */
  failOf(rank: number, error: Error): void {
    for (const [id, { waiting, failures }] of this.#calls) {
      if (!waiting.has(rank)) continue;
      if (failures.size > 0) this.#rejectWithFailure(id);
      else this.#finish(id)?.reject(error);
    }
  }

  failAll(error: Error): void {
    for (const [id, { failures }] of this.#calls) {
      if (failures.size > 0) this.#rejectWithFailure(id);
      else this.#finish(id)?.reject(error);
    }
  }

  /** With the first error; it has the ranks that failed so as `failedRanks` among its details, unless all of them did. */
  #rejectWithFailure(id: number): void {
    const call = this.#finish(id);
    const first = call?.failures.values().next().value;
    if (call === undefined || first === undefined) return;
    const failedRanks = [...call.failures]
      .filter(([, error]) => isAlike(error, first))
      .map(([rank]) => rank)
      .sort((a, b) => a - b);
    const isOfAll = failedRanks.length === this.#ranks.length;
    call.reject(first instanceof SluiceError && !isOfAll ? withDetails(first, { failedRanks }) : first);
  }

  #timeOut(id: number, kind: WaitKind, limitMs: number): void {
    const call = this.#finish(id);
    if (call === undefined) return;
    const waitingFor = [...call.waiting].sort((a, b) => a - b);
    const doing = waitingFor.map((rank) => `rank ${rank} (${this.#activity(rank)})`).join(', ');
    call.reject(
      new SluiceError(
        'SLUICE_E_WORKER_TIMEOUT',
        `No answer to ${call.method} within ${limitMs / 1000} s (limit of ${kind}) from ${doing}.`,
        { details: { method: call.method, kind, limitMs, waitingFor } },
      ),
    );
  }

  #finish(id: number): Call | undefined {
    const call = this.#calls.get(id);
    this.#calls.delete(id);
    call?.endWait();
    return call;
  }
}

function withDetails(cause: SluiceError, more: Record<string, unknown>): SluiceError {
  return new SluiceError(cause.code, cause.message, { details: { ...cause.details, ...more }, cause });
}

function isAlike(one: Error, other: Error): boolean {
  const codeOf = (error: Error) => (error instanceof SluiceError ? error.code : undefined);
  return codeOf(one) === codeOf(other) && one.message === other.message;
}
