/** The workers of a run as training sees them. */

import {
  type Blocked,
  type Group,
  type OperationRecord,
  type Outside,
  type Pending,
  soloGroup,
} from '@sluice/collectives';

/** The part of a `Communicator` that training needs. */
export interface Workers {
  readonly rank: number;
  readonly size: number;
  readonly world: Group;
  /** How long the main thread has been blocked in operations of all its groups so far. */
  readonly blocked: Blocked;
  group(ranks: readonly number[]): Group;
  progress(text: string): void;
  /** Records what the groups do from now on; what it returns ends that. Absent where nothing is sent. */
  record?(): () => OperationRecord;
  /** An operation that the workers' devices carry out. Absent where nothing is sent. */
  outside?(operation: Outside): Pending;
}

/** One worker alone, without communication. */
export function soloWorkers(): Workers {
  const world = soloGroup();
  return {
    rank: 0,
    size: 1,
    world,
    blocked: { waiting: 0, moving: 0 },
    group: () => world,
    progress: () => {},
  };
}
