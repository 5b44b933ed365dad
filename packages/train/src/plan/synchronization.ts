/** What it costs to bring replicas together that train apart, and what of that is left where exchanges overlap steps. */

import type { SynchronizeConfig } from '../synchronize/config.ts';
import { turnOf } from '../synchronize/parts.ts';
import {
  type Cluster,
  membersOf,
  type OperationCost,
  reduceScatterCost,
  sumOf,
  type TopologyKind,
} from './cluster.ts';
import { heldElements, type Placement, valueBytes } from './held.ts';
import { outerGradientBytes, type ReplicasPlan } from './replicas.ts';
import type { StepTimes } from './stepTimes.ts';

/** The exchanges of one interval. */
export interface Synchronization {
  readonly settings: SynchronizeConfig;
  readonly parts: readonly {
    /** Of differences to those who sum them, and as much of the sums back. */
    readonly half: OperationCost;
    /** Of the new weights to the workers of each own replica. */
    readonly gather: OperationCost;
  }[];
}

/** Differences are summed among the workers that own the same parts; the new weights go to the workers of each replica. */
export function synchronizationOf(
  { replica, perWorker, counterparts, settings, parts }: ReplicasPlan,
  cluster: Cluster,
  kind: TopologyKind,
): Synchronization {
  const { workers } = replica.parallel;
  const sumOver = (amounts: Readonly<Record<Placement, number>>) => amounts.replicated + amounts.expert;
  const [elements, values] = [sumOver(heldElements(replica)), sumOver(valueBytes(replica))];
  return {
    settings,
    parts: parts.map((share) => {
      const own = outerGradientBytes(settings, (share * elements) / workers);
      const gather = reduceScatterCost(cluster, membersOf(workers, 1, cluster), share * values, kind);
      return {
        half: reduceScatterCost(cluster, membersOf(counterparts, workers, cluster), own, kind),
        gather: sumOf(...Array.from({ length: perWorker }, () => gather)),
      };
    }),
  };
}

/** A step with its share of the exchanges. @param step without them */
export function withSynchronization(step: StepTimes, { settings, parts }: Synchronization): StepTimes {
  const { everySteps } = settings;
  const exposed = parts.reduce(
    (sum, { half, gather }) => sum + exposedSeconds(half, settings, step) + gather.seconds,
    0,
  );
  const all = sumOf(...parts.flatMap(({ half, gather }) => [half, half, gather]));
  const synchronize = exposed / everySteps;
  return {
    ...step,
    exposed: { ...step.exposed, synchronize },
    communicate: step.communicate + synchronize,
    total: step.total + synchronize,
    underway: step.underway + all.seconds / everySteps,
    bytesWithin: step.bytesWithin + all.bytesWithin / everySteps,
    bytesBetween: step.bytesBetween + all.bytesBetween / everySteps,
    messages: step.messages + all.messages / everySteps,
  };
}

/**
 * What of an exchange is waited for. It has the link while nothing else of the steps that it overlaps is under way on it; rounded
 * differences and sums have each a part of these steps.
 */
function exposedSeconds(
  half: OperationCost,
  { overlapSteps, outerGradients }: SynchronizeConfig,
  step: StepTimes,
): number {
  const isSameLink = half.bytesBetween > 0 === step.bytesBetween > 0;
  const free = Math.max(0, step.total - (isSameLink ? step.underway : 0));
  if (outerGradients === 'float32') return Math.max(0, 2 * half.seconds - overlapSteps * free);
  const there = turnOf({ part: 0, step: 0 }, overlapSteps);
  const left = (steps: number) => Math.max(0, half.seconds - steps * free);
  return left(there) + left(overlapSteps - there);
}
