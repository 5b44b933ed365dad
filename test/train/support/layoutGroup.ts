/** A group that nothing is sent in: for layouts, and the memory that they take. */

import type { Group, Pending } from '@sluice/collectives';

export function layoutGroup(rank: number, size: number): Group {
  const unused = (): Pending => {
    throw new Error('not used');
  };
  const ranks = Array.from({ length: size }, (_, i) => i);
  return {
    ...{ ranks, rank, size },
    ...{ allReduce: unused, reduceScatter: unused, allGather: unused },
    ...{ allToAll: unused, broadcast: unused, barrier: unused },
  };
}
