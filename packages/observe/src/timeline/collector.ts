/** Tells a collector of OpenTelemetry of steps, in the background. One that is away costs a run nothing. */

import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import { BackgroundQueue } from '../backgroundQueue.ts';
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

/** A step, and when it began, ms since 1970. */
interface StartedStep {
  readonly timeline: StepTimeline;
  readonly startMs: number;
}

export class TraceCollector {
  readonly #access: CollectorAccess;
  readonly #queue: BackgroundQueue<StartedStep>;

  /** @param warn told once when traces do not arrive */
  constructor(access: CollectorAccess, warn: (text: string) => void) {
    this.#access = access;
    this.#queue = new BackgroundQueue({
      most: MOST_WAITING,
      bring: (started) => this.#tell(started),
      warn: ({ timeline: { step } }, problem) =>
        warn(`The trace of step ${step} could not be brought: ${problem} Training goes on.`),
    });
  }

  /** Returns at once. @param startMs when the step began, ms since 1970 */
  send(timeline: StepTimeline, startMs: number): void {
    this.#queue.add({ timeline, startMs });
  }

  /** Waits for what is on its way, but not longer than that. */
  close(limitMs: number): Promise<void> {
    return this.#queue.close(limitMs);
  }

  /** @returns why it could not be brought */
  async #tell({ timeline, startMs }: StartedStep): Promise<string | undefined> {
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
