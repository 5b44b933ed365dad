/** The workers as the coordinator's loop sees them: one call goes to all, and all answer. */

import { inspect, isDeepStrictEqual } from 'node:util';
import type { BenchRequest, BenchResult } from '@sluice/collectives';
import { invariant } from '@sluice/core';
import type { WorkerMethods } from '@sluice/train';

interface Methods extends WorkerMethods {
  /** Times collective operations; nothing else of a worker is needed for it. */
  measure(request: BenchRequest): BenchResult;
}

export type MethodName = keyof Methods;
export type Request<Method extends MethodName> = Parameters<Methods[Method]>[0];
export type Answer<Method extends MethodName> = Awaited<ReturnType<Methods[Method]>>;

export interface Workers {
  readonly count: number;
  /**
   * Tells these workers from all that there were before; left out where they are children of this process, which have ended
   * before others begin.
   */
  readonly id?: string | undefined;
  /** Calls a method on all workers at once; answers in rank order. */
  call<Method extends MethodName>(method: Method, request: Request<Method>): Promise<Answer<Method>[]>;
  /** Ends the workers in order, and by force those that do not end soon. */
  stop(): Promise<void>;
  /** Ends the workers by force, at once. */
  kill(): Promise<void>;
}

/**
 * The first worker's answer, after making sure that the fields which all must agree on are the same bits in every one.
 * A difference would mean that the workers no longer hold the same weights, so nothing may be built on it.
 */
export function agreed<T extends object>(
  what: string,
  answers: readonly T[],
  fields: readonly (keyof T)[],
): T {
  const [first, ...others] = answers;
  invariant(first, `no worker answered ${what}`);
  for (const [index, other] of others.entries()) {
    for (const field of fields) {
      invariant(
        isDeepStrictEqual(first[field], other[field]),
        `${what}: rank 0 says ${String(field)} ${inspect(first[field])}, rank ${index + 1} says ${inspect(other[field])}`,
      );
    }
  }
  return first;
}
