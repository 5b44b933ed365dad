/** Entry of a thread that hashes parts of a checkpoint. */

import { parentPort } from 'node:worker_threads';
import { verifyShardBlocks } from './verifyShard.ts';
import type { VerifyAnswer, VerifyTask } from './verifyThreads.ts';

parentPort!.on('message', async ({ directory, shard }: VerifyTask) => {
  const answer: VerifyAnswer = await verifyShardBlocks(directory, shard).then(
    (problems) => ({ problems }),
    (error: Error) => ({ error: error.message }),
  );
  parentPort!.postMessage(answer);
});
