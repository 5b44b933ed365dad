/** Tells a collector of OpenTelemetry of steps, in the background. One that is away costs a run nothing. */

import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import { post } from '../post.ts';
import { type Attributes, traceRequests } from './otlp.ts';
import type { StepTimeline } from './timeline.ts';

/** Where a collector is, and what it is told with. */
export interface CollectorAccess {
  /** That traces are posted to. */
  readonly url: string;
  /** May be secrets. */
  readonly headers: Readonly<Record<string, string>>;
  /** How long one request may take, ms. */
  readonly limitMs: number;
  /** Of the run, and what the environment adds. */
  readonly attributes: Attributes;
}

/** Steps that wait; of more the oldest are left out. */
const MOST_WAITING = 8;

export class TraceCollector {
  readonly #access: CollectorAccess;
  readonly #warn: (text: string) => void;
  readonly #waiting: { readonly timeline: StepTimeline; readonly startMs: number }[] = [];
  #working: Promise<void> | undefined;
  #hasWarned = false;

  /** @param warn told once when traces do not arrive */
  constructor(access: CollectorAccess, warn: (text: string) => void) {
    this.#access = access;
    this.#warn = warn;
  }

  /** Returns at once. @param startMs when the step began, ms since 1970 */
  send(timeline: StepTimeline, startMs: number): void {
    this.#waiting.push({ timeline, startMs });
    if (this.#waiting.length > MOST_WAITING) this.#waiting.shift();
    this.#working ??= this.#work().finally(() => {
      this.#working = undefined;
    });
  }

  /** Waits for what is on its way, but not longer than that. */
  async close(limitMs: number): Promise<void> {
    const limit = new AbortController();
    await Promise.race([
      this.#working,
      delay(limitMs, undefined, { signal: limit.signal, ref: false }).catch(() => {}),
    ]);
    limit.abort();
    this.#waiting.length = 0;
  }

  async #work(): Promise<void> {
    for (let next = this.#waiting.shift(); next; next = this.#waiting.shift()) {
      const problem = await this.#tell(next.timeline, next.startMs);
      if (problem === undefined || this.#hasWarned) continue;
      this.#hasWarned = true;
      this.#warn(
        `The trace of step ${next.timeline.step} could not be brought: ${problem} Training goes on.`,
      );
    }
  }

  /** @returns why it could not be brought */
  async #tell(timeline: StepTimeline, startMs: number): Promise<string | undefined> {
    const { url, headers, limitMs, attributes } = this.#access;
    for (const request of traceRequests(timeline, { attributes, startMs })) {
      const body = new Uint8Array(await promisify(gzip)(JSON.stringify(request)));
      const type = { 'Content-Type': 'application/json', 'Content-Encoding': 'gzip' };
      const problem = await post(url, { headers: { ...headers, ...type }, body, limitMs });
      if (problem !== undefined) return problem;
    }
    return undefined;
  }
}
