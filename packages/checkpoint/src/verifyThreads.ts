/** Hashing all of a checkpoint on several cores: its parts are dealt out among threads. */

import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { availableCores, inParallel } from '@sluice/core';
import type { ShardRecord } from './manifest.ts';
import { type CheckpointProblem, verifyShardBlocks } from './verifyShard.ts';

export interface VerifyTask {
  readonly directory: string;
  readonly shard: Pick<ShardRecord, 'file' | 'pieces'>;
}

export type VerifyAnswer = { readonly problems: readonly CheckpointProblem[] } | { readonly error: string };

/** Bytes below which a thread of its own is not worth its start. */
const WORTH_A_THREAD = 64 * 2 ** 20;

/** More would only wait for the disk. */
const MOST_THREADS = 8;

/** What is wrong with the blocks of shards' pieces, shard by shard, in order. */
export async function verifyPieces(
  directory: string,
  shards: readonly ShardRecord[],
): Promise<CheckpointProblem[][]> {
  const parts = shards.flatMap((shard, index) => partsOf(shard).map((part) => ({ index, part })));
  const bytes = shards.reduce((sum, { size }) => sum + size, 0);
  const threads = Math.min(MOST_THREADS, availableCores().count, Math.floor(bytes / WORTH_A_THREAD));
  const found: CheckpointProblem[][] = shards.map(() => []);
  const answers =
    threads > 1
      ? await onThreads(
          parts.map(({ part }) => ({ directory, shard: part })),
          threads,
        )
      : await inParallel(parts, 1, ({ part }) => verifyShardBlocks(directory, part));
  for (const [i, problems] of answers.entries()) found[parts[i]!.index]!.push(...problems);
  return found;
}

/** A shard's pieces in groups that are worth a thread each, as far as there are so many. */
function partsOf({ file, pieces }: ShardRecord): VerifyTask['shard'][] {
  const parts: { file: string; pieces: ShardRecord['pieces'] }[] = [];
  let bytes = WORTH_A_THREAD;
  for (const piece of pieces) {
    if (bytes >= WORTH_A_THREAD) {
      parts.push({ file, pieces: [] });
      bytes = 0;
    }
    parts.at(-1)!.pieces.push(piece);
    bytes += 4 * (piece.end - piece.begin);
  }
  return parts;
}

async function onThreads(
  tasks: readonly VerifyTask[],
  count: number,
): Promise<(readonly CheckpointProblem[])[]> {
  const idle = Array.from(
    { length: count },
    () => new Worker(new URL('./verifyThread.js', import.meta.url), { execArgv: [] }),
  );
  const threads = [...idle];
  try {
    return await inParallel(tasks, count, async (task) => {
      const thread = idle.pop()!;
      thread.postMessage(task);
      const [answer] = (await once(thread, 'message')) as [VerifyAnswer];
      idle.push(thread);
      if ('error' in answer) throw new Error(answer.error);
      return answer.problems;
    });
  } finally {
    await Promise.all(threads.map((thread) => thread.terminate()));
  }
}
