/** Entry of the thread that writes shards beside training: hashing and writing, one shard after the other. */

import { setPriority } from 'node:os';
import { parentPort } from 'node:worker_threads';
import { SluiceError } from '@sluice/core';
import { writeShard } from './shard.ts';
import type { ShardOutcome, ShardTask } from './shardWriter.ts';

/** Hashing takes a core for a while; whoever computes comes first. */
const NICENESS = 10;

try {
  // On Linux the priority is the calling thread's alone.
  if (process.platform === 'linux') setPriority(0, NICENESS);
} catch {
  // It is only a courtesy.
}

async function carryOut({ directory, rank, pieces, writer }: ShardTask): Promise<ShardOutcome> {
  try {
    return { shard: await writeShard(directory, rank, pieces, { writer }) };
  } catch (error) {
    const { message } = error as Error;
    return { failure: { code: error instanceof SluiceError ? error.code : undefined, message } };
  }
}

parentPort!.on('message', async (task: ShardTask) => parentPort!.postMessage(await carryOut(task)));
