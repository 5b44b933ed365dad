/** Operations that others carry out than the communication thread: devices that send each other their memory. */

import { AwakeClock } from './awakeTime.ts';
import { monotonicMs } from './blockedTime.ts';
import type { DirectHost } from './directExchange.ts';
import type { Pending } from './group.ts';
import { describeOperation, timeoutError } from './operation.ts';
import type { OperationSpan } from './operationRecord.ts';
import { REPORT_MS, rest, SPIN_MS } from './rest.ts';
import type { OperationName } from './wire.ts';

export interface Outside {
  /** World ranks that take part. */
  readonly ranks: readonly number[];
  readonly name: OperationName;
  /** That this rank sends to others. */
  readonly bytes: number;
  /** @throws what went wrong with it */
  isDone(): boolean;
}

/** What it needs of the communicator. */
export interface OutsideHost extends DirectHost {
  readonly rank: number;
  /** Does what peers on this host wait for meanwhile. */
  servePeers(): void;
}

export class OutsideOperation implements Pending {
  readonly #operation: Outside;
  readonly #sequence: number;
  readonly #host: OutsideHost;
  readonly #span: OperationSpan | undefined;
  #done = false;

  /** @param sequence counts such operations */
  constructor(operation: Outside, sequence: number, host: OutsideHost) {
    const { name, ranks, bytes } = operation;
    this.#operation = operation;
    this.#sequence = sequence;
    this.#host = host;
    this.#span = host.blocked.record?.launch(name, ranks, bytes, monotonicMs());
  }

  get done(): boolean {
    if (this.#done || !this.#operation.isDone()) return this.#done;
    this.#done = true;
    if (this.#span) this.#span.ended = monotonicMs();
    return true;
  }

  /** When peers came to it is not known: all of the wait counts as if bytes moved. */
  wait(): void {
    const start = monotonicMs();
    const waited = new AwakeClock();
    const { name, ranks } = this.#operation;
    const identity = { name, ranks, sequence: this.#sequence };
    let isReported = false;
    try {
      while (!this.done) {
        this.#host.servePeers();
        const waitedMs = waited.look();
        if (waitedMs <= SPIN_MS) continue;
        rest(waitedMs);
        this.#host.checkAlive(ranks);
        if (waitedMs > REPORT_MS && !isReported) this.#host.waitsIn(describeOperation(identity));
        isReported ||= waitedMs > REPORT_MS;
        if (waitedMs > this.#host.limitMs) throw this.#timeout(identity);
      }
    } finally {
      if (isReported) this.#host.waitsIn(undefined);
      this.#host.blocked.count(name, start, start);
    }
  }

  #timeout(identity: { name: OperationName; ranks: readonly number[]; sequence: number }) {
    const { rank, limitMs } = this.#host;
    const others = identity.ranks.filter((peer) => peer !== rank);
    return timeoutError(
      rank,
      limitMs,
      identity,
      new Map(others.map((peer) => [peer, 'one of their devices has not come to it'])),
    );
  }
}
