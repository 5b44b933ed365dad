/** Entry of a process of `benchCollectives`. */

import { invariant } from '@sluice/core';
import { sharedFloat32 } from './arrays.ts';
import { Communicator } from './communicator.ts';
import { receiveInvitation } from './invitation.ts';

export interface BenchRequest {
  readonly mib: number;
  readonly iterations: number;
}

export interface BenchResult {
  /** Of each all-reduce, ms. */
  readonly total: readonly number[];
  /** What of that passed before all had begun. */
  readonly waiting: readonly number[];
}

const communicator = await Communicator.connect(await receiveInvitation());

await communicator.serve({
  bench({ mib, iterations }: BenchRequest): BenchResult {
    const buffer = sharedFloat32(mib * 2 ** 18);
    const total: number[] = [];
    const waiting: number[] = [];
    for (let i = 0; i < iterations; i++) {
      buffer.fill(1);
      communicator.world.barrier().wait();
      const waited = communicator.blocked.waiting;
      const start = performance.now();
      communicator.world.allReduce(buffer).wait();
      total.push(performance.now() - start);
      waiting.push((communicator.blocked.waiting - waited) * 1e3);
      invariant(
        buffer[0] === communicator.size && buffer[buffer.length - 1] === communicator.size,
        'the sum of ones is the number of ranks',
      );
    }
    return { total, waiting };
  },
});
await communicator.close();
