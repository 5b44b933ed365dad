/** The workers as the coordinator's loop sees them: one call goes to all, and all answer. */

import { inspect, isDeepStrictEqual } from 'node:util';
import type { BenchRequest, BenchResult } from '@sluice/collectives';
import { invariant, SluiceError } from '@sluice/core';
import type { WorkerMethods } from '@sluice/train';
import type { Placement } from '../fleet/placement.ts';

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
 * After a difference nothing may be built on what the workers hold.
 * @throws SLUICE_E_WORKERS_DISAGREE with the ranks
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
      if (isDeepStrictEqual(first[field], other[field])) continue;
      throw new SluiceError(
        'SLUICE_E_WORKERS_DISAGREE',
        `${what}: rank 0 says ${String(field)} ${inspect(first[field])}, rank ${index + 1} says ${inspect(other[field])}.`,
        { details: { ranks: [0, index + 1] } },
      );
    }
  }
  return first;
}

/** A disagreement of workers with the hosts that they are on, where there are several. */
export function withPlaces(error: unknown, placements: readonly Placement[]): unknown {
  const isDisagreement = error instanceof SluiceError && error.code === 'SLUICE_E_WORKERS_DISAGREE';
  if (!isDisagreement || placements.length < 2) return error;
  const places = placements.map(({ host, ranks }) => `${host.name} has ranks ${ranks.join(', ')}`);
  return new SluiceError(error.code, `${error.message} ${places.join('; ')}.`, {
    details: error.details,
    cause: error,
  });
}
