/** Entry of a process of `benchCollectives`. */

import { invariant } from '@sluice/core';
import { sharedFloat32 } from './arrays.ts';
import { Communicator } from './communicator.ts';

export interface BenchRequest {
  readonly mib: number;
  readonly iterations: number;
}

export interface BenchResult {
  /** Of each all-reduce. */
  readonly milliseconds: readonly number[];
}

const communicator = await Communicator.connect();

await communicator.serve({
  bench({ mib, iterations }: BenchRequest): BenchResult {
    const buffer = sharedFloat32(mib * 2 ** 18);
    const milliseconds: number[] = [];
    for (let i = 0; i < iterations; i++) {
      buffer.fill(1);
      communicator.world.barrier().wait();
      const start = performance.now();
      communicator.world.allReduce(buffer).wait();
      milliseconds.push(performance.now() - start);
      invariant(
        buffer[0] === communicator.size && buffer[buffer.length - 1] === communicator.size,
        'the sum of ones is the number of ranks',
      );
    }
    return { milliseconds };
  },
});
await communicator.close();
