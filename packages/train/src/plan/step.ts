/** What a step sends, and how long it takes. */

import { expertLayers, flopsPerToken, modelParameters } from '@sluice/model';
import type { RunConfig } from '../config.ts';
import { muonMatrix, muonOperations } from '../optimizer/settings.ts';
import { oneHost } from './cluster.ts';
import { type Device, flopsPerSecondOf } from './devices.ts';
import { heldElements, type Placement, replicas, valueBytes } from './held.ts';
import {
  activationElementBytes,
  gradientBytes,
  type HostMemoryPlan,
  type MemoryPlan,
  planHostMemory,
  planMemory,
} from './memory.ts';
import { outerGradientBytes, replicasPlan } from './replicas.ts';
import { type Speed, scheduleOf, stepTimes } from './schedule.ts';

/** Bytes that one worker sends in a step; it receives as many. */
export interface TrafficPlan {
  /** Partial sums of gradients to the owners of their slices. */
  readonly reduceScatter: number;
  /** New values of the own slices to the other workers. */
  readonly allGather: number;
  /** Rows to experts and back, in both passes; balanced experts are assumed. */
  readonly allToAll: number;
  /** Of replicas that train apart, what brings them together, as far as it falls to a step. */
  readonly synchronize?: number;
  /** The same of the step that has most of it; not a part of the total. */
  readonly mostSynchronize?: number;
  readonly total: number;
}

/** Seconds of a step. */
export interface TimePlan {
  readonly compute: number;
  readonly optimizer: number;
  /** Communication that nothing overlaps. */
  readonly communicate: number;
  readonly total: number;
}

export interface Plan {
  readonly memory: MemoryPlan;
  /** Of the host, where a GPU computes. */
  readonly hostMemory?: HostMemoryPlan;
  readonly traffic: TrafficPlan;
  readonly seconds: TimePlan;
  readonly tokensPerStep: number;
  readonly tokensPerSecond: number;
  /** Operations that the model needs ÷ those that the devices could do meanwhile. */
  readonly utilization: number;
}

export function planTraffic(config: RunConfig): TrafficPlan {
  const replicas = replicasPlan(config);
  if (!replicas) return trafficOfOne(config);
  const { replica, perWorker, counterparts, settings, parts } = replicas;
  const one = trafficOfOne(replica);
  const [held, values] = [heldElements(replica), valueBytes(replica)];
  const { workers } = replica.parallel;
  const elements = held.replicated + held.expert;
  const differences =
    (2 * outerGradientBytes(settings, elements / workers) * (counterparts - 1)) / counterparts;
  const weights = (perWorker * (values.replicated + values.expert) * (workers - 1)) / workers;
  const synchronize = (differences + weights) / settings.everySteps;
  const mostSynchronize = Math.max(...parts) * (differences + weights);
  return {
    reduceScatter: perWorker * one.reduceScatter,
    allGather: perWorker * one.allGather,
    allToAll: perWorker * one.allToAll,
    ...{ synchronize, mostSynchronize },
    total: perWorker * one.total + synchronize,
  };
}

function trafficOfOne(config: RunConfig): TrafficPlan {
  const shared = replicas(config);
  const sent = (held: Readonly<Record<Placement, number>>) => {
    const of = (placement: Placement) => (held[placement] * (shared[placement] - 1)) / shared[placement];
    return of('replicated') + of('expert');
  };
  const plan = {
    reduceScatter: gradientBytes(config.parallel) * sent(heldElements(config)),
    allGather: sent(valueBytes(config)),
    allToAll: expertTraffic(config),
  };
  return { ...plan, total: plan.reduceScatter + plan.allGather + plan.allToAll };
}

function expertTraffic(config: RunConfig): number {
  const { model, parallel, batch, data } = config;
  if (!model.experts) return 0;
  const { expertParallel, workers } = parallel;
  const tokens = (batch.sequences * data.sequenceLength) / workers;
  const rowBytes = activationElementBytes(config) * model.hiddenSize * model.experts.topK;
  // There and back, forward and backward.
  const passes = 4 * expertLayers(model).length;
  return (passes * tokens * rowBytes * (expertParallel - 1)) / expertParallel;
}

/** AdamW reads and writes a value, two moments, and reads a gradient; what Muon moves is not more. */
const OPTIMIZER_BYTES_PER_PARAMETER = 4 * 7;

/** Operations of Muon's products, shared out evenly. */
function muonOperationsOfWorker(config: RunConfig): number {
  const { model, parallel, optimizer } = config;
  const shared = replicas(config);
  const operations = modelParameters(model, { rank: 0, size: parallel.expertParallel }).flatMap((spec) =>
    spec.tensors.map((tensor) => {
      const size = muonMatrix(optimizer, spec, tensor);
      return size ? muonOperations(size, optimizer) / shared[spec.placement] : 0;
    }),
  );
  return operations.reduce((sum, one) => sum + one, 0);
}

/** How fast a device takes a step of a run; where replicas train apart, of one of them. */
export function speedOf(run: RunConfig, device: Device): Speed {
  const config = replicasPlan(run)?.replica ?? run;
  const held = heldElements(config);
  const shared = replicas(config);
  const owned = held.replicated / shared.replicated + held.expert / shared.expert;
  const flopsPerSecond = flopsPerSecondOf(config, device) * device.efficiency;
  return {
    flopsPerSecond,
    optimizerSeconds:
      (OPTIMIZER_BYTES_PER_PARAMETER * owned) / device.memoryBytesPerSecond +
      muonOperationsOfWorker(config) / flopsPerSecond,
  };
}

/** All workers in one host, as near to each other as the device's link has them; `sluice simulate` knows of hosts. */
function planTime(config: RunConfig, device: Device): TimePlan {
  const schedule = scheduleOf(config, oneHost(device, config.parallel.workers), 'flat');
  const { compute, optimizer, communicate, total } = stepTimes(schedule, config, speedOf(config, device));
  return { compute, optimizer, communicate, total };
}

/** @param config that fits together; see `validateConfig` of the launcher */
export function planRun(config: RunConfig, device: Device): Plan {
  const { model, batch, data, parallel } = config;
  const traffic = planTraffic(config);
  const seconds = planTime(config, device);
  const tokensPerStep = batch.sequences * data.sequenceLength;
  const possible = parallel.workers * flopsPerSecondOf(config, device) * seconds.total;
  const { devicesPerHost } = device.cluster;
  const hostMemory = planHostMemory(config, device.memoryBytes, devicesPerHost);
  return {
    memory: planMemory(config, device.memoryBytes, devicesPerHost),
    ...(hostMemory && { hostMemory }),
    traffic,
    seconds,
    tokensPerStep,
    tokensPerSecond: tokensPerStep / seconds.total,
    utilization: (tokensPerStep * flopsPerToken(model, data.sequenceLength)) / possible,
  };
}
