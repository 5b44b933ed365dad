/** Writes a worker's shard on a thread of its own, while the worker computes. */

import { Worker } from 'node:worker_threads';
import { type ErrorCode, invariant, SluiceError } from '@sluice/core';
import type { ShardRecord } from './manifest.ts';
import type { Piece } from './tensors.ts';

/** One shard, as the thread is told of it. */
export interface ShardTask {
  readonly directory: string;
  readonly rank: number;
  readonly pieces: readonly Piece[];
  readonly writer?: string | undefined;
}

export type ShardOutcome =
  | { readonly shard: ShardRecord }
  | { readonly failure: { readonly code: ErrorCode | undefined; readonly message: string } };

/** The thread starts with the first shard, and keeps no process alive. */
export class ShardWriter {
  #thread: Worker | undefined;
  #end: ((outcome: ShardOutcome) => void) | undefined;

  /**
   * As `writeShard`. One shard at a time; the values lie in shared memory, and must not change before the promise settles.
   * @throws what `writeShard` throws; SLUICE_E_WORKER_FAILED when the thread breaks
   */
  async write(task: ShardTask): Promise<ShardRecord> {
    invariant(this.#end === undefined, 'a shard is written while another one is');
    invariant(
      task.pieces.every(({ values }) => values.buffer instanceof SharedArrayBuffer),
      'a shard that another thread writes lies in shared memory',
    );
    this.#thread ??= this.#start();
    const outcome = await new Promise<ShardOutcome>((resolve) => {
      this.#end = resolve;
      this.#thread!.postMessage(task);
    });
    if ('shard' in outcome) return outcome.shard;
    const { code = 'SLUICE_E_WORKER_FAILED', message } = outcome.failure;
    throw new SluiceError(code, message, { details: { directory: task.directory, rank: task.rank } });
  }

  #start(): Worker {
    const thread = new Worker(new URL('./shardThread.js', import.meta.url), {
      // Loaders of the main thread (a test's, say) are not needed for compiled code.
      execArgv: [],
    });
    thread.on('message', (outcome: ShardOutcome) => this.#settle(outcome));
    thread.on('error', ({ message }) => this.#break(`The thread that writes shards broke: ${message}`));
    thread.on('exit', () => this.#break('The thread that writes shards has ended.'));
    // Only now: listeners keep it.
    thread.unref();
    return thread;
  }

  #break(message: string): void {
    this.#thread = undefined;
    this.#settle({ failure: { code: undefined, message } });
  }

  #settle(outcome: ShardOutcome): void {
    const end = this.#end;
    this.#end = undefined;
    end?.(outcome);
  }
}
