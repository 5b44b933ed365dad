import type { Departure } from './parts.ts';

/** State of replicas that train apart which is the same on all workers; saved with each checkpoint. */
export interface ReplicasState {
  /** Of each replica, as `trainerState`. */
  readonly replicas: readonly unknown[];
  /** Differences that are on their way; left out where there are none. */
  readonly underway?: Departure;
}
