/** Which workers train which replicas, and on what part of each batch. */

import type { Group } from '@sluice/collectives';
import { firstSampleOfRequest } from '../batches.ts';
import { sequencesAt } from '../batchSizes.ts';
import type { RunConfig } from '../config.ts';
import { linkDevices } from '../linkDevices.ts';
import type { StepRequest } from '../protocol.ts';
import { type Topology, topology } from '../topology.ts';
import type { Workers } from '../workers.ts';

export interface ReplicaLayout {
  /** Of this worker, neighbours in ascending order: several where there are fewer workers than replicas. */
  readonly replicas: readonly number[];
  /** The workers of these replicas. */
  readonly topology: Topology;
  /** The workers that own the same parts of the other replicas. */
  readonly counterparts: Group;
}

/** Both numbers are powers of two. Workers of one replica are neighbours. */
export function replicaLayout(workers: Workers, replicas: number, expertParallel: number): ReplicaLayout {
  const { rank, size, blocked } = workers;
  const workersOfReplica = Math.max(1, size / replicas);
  const replicasOfWorker = Math.max(1, replicas / size);
  const place = Math.floor(rank / workersOfReplica);
  const first = place * workersOfReplica;
  const within = rank - first;
  const ranks = Array.from({ length: workersOfReplica }, (_, i) => first + i);
  return {
    replicas: Array.from({ length: replicasOfWorker }, (_, i) => place * replicasOfWorker + i),
    topology: topology(
      {
        ...{ rank: within, size: workersOfReplica, blocked },
        world: workers.group(ranks),
        group: (members) => workers.group(members.map((member) => first + member)),
      },
      Math.min(expertParallel, workersOfReplica),
      linkDevices(workers),
    ),
    counterparts: workers.group(
      Array.from({ length: size / workersOfReplica }, (_, i) => within + i * workersOfReplica),
    ),
  };
}

/** The configuration of a replica: an equal part of every batch, with its part of the lanes. */
export function replicaConfig(config: RunConfig, replicas: number): RunConfig {
  const { batch, parallel } = config;
  const { ramp } = batch;
  return {
    ...config,
    parallel: { ...parallel, lanes: parallel.lanes / replicas },
    batch: {
      ...batch,
      sequences: batch.sequences / replicas,
      ...(ramp && {
        ramp: {
          ...ramp,
          from: ramp.from / replicas,
          ...(ramp.increment !== undefined && { increment: ramp.increment / replicas }),
          ...(ramp.tokens !== undefined && { tokens: ramp.tokens / replicas }),
        },
      }),
    },
  };
}

/**
 * The step of a replica. It judges nothing by what is usual for the run, since it knows only itself.
 * @param config of the whole run
 */
export function replicaRequest(
  { step, learningRate, firstSample }: StepRequest,
  config: RunConfig,
  replica: number,
): StepRequest {
  const { replicas } = config.parallel.synchronize!;
  const first = firstSampleOfRequest({ step, ...(firstSample !== undefined && { firstSample }) }, config);
  return { step, learningRate, firstSample: first + (replica * sequencesAt(config, step)) / replicas };
}
