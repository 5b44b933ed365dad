/** Messages between a worker's main thread and its communication thread. */

import type { MessagePort } from 'node:worker_threads';
import type { ErrorData } from './controlProtocol.ts';
import type { Invitation } from './invitation.ts';
import { DEFAULT_COLLECTIVE_LIMIT_MS } from './processGroup.ts';
import type { OperationName } from './wire.ts';

export interface ThreadOptions extends Invitation {
  readonly limits: WorkerLimits;
  readonly memory: SharedArrayBuffer;
  /** Carries the errors of failed operations and lost peers, read synchronously by the main thread. */
  readonly failures: MessagePort;
}

/** Limits of a worker's own waits, ms. */
export interface WorkerLimits {
  /** One collective operation. */
  readonly collectiveMs: number;
  /** From hello until all workers are there. */
  readonly connectMs: number;
  /** From then until there are connections to all workers of other machines. */
  readonly reachMs: number;
  /** Silence of a coordinator on another machine after which the worker ends itself. */
  readonly coordinatorSilenceMs: number;
}

export const DEFAULT_WORKER_LIMITS: WorkerLimits = {
  collectiveMs: DEFAULT_COLLECTIVE_LIMIT_MS,
  connectMs: 120_000,
  reachMs: 20_000,
  coordinatorSilenceMs: 15_000,
};

export type ToThread =
  | {
      readonly type: 'launch';
      readonly slot: number;
      readonly ranks: readonly number[];
      readonly name: OperationName;
      readonly args: readonly unknown[];
    }
  | { readonly type: 'result'; readonly id: number; readonly value: unknown }
  | { readonly type: 'failure'; readonly id: number; readonly error: ErrorData }
  | { readonly type: 'close'; readonly reason: string };

export type FromThread =
  | { readonly type: 'ready'; readonly size: number }
  | { readonly type: 'broken'; readonly error: ErrorData }
  | { readonly type: 'call'; readonly id: number; readonly method: string; readonly request: unknown };

/** What failed: the operation of a slot, or a peer. */
export type Failure =
  | { readonly slot: number; readonly error: ErrorData }
  | { readonly lost: number; readonly error: ErrorData };
