/**
 * The schedule of a step, moment by moment, for one worker that all others are like: forward and backward passes grain by grain and
 * stage by stage, and what is sent meanwhile. It is the order of `GradientPasses` and `ShardedOptimizer`.
 */

import { expertLayers, flopsPerToken, layerModels } from '@sluice/model';
import { blockLayout } from '../blockLayout.ts';
import type { RunConfig } from '../config.ts';
import {
  allReduceCost,
  allToAllCost,
  type Cluster,
  type Members,
  membersOf,
  type OperationCost,
  reduceScatterCost,
  sumOf,
  type TopologyKind,
} from './cluster.ts';
import { type StageBytes, stageBytes } from './held.ts';
import { activationElementBytes, gradientBytes } from './memory.ts';
import { replicasPlan } from './replicas.ts';
import type { StepTimes } from './stepTimes.ts';
import { type Synchronization, synchronizationOf, withSynchronization } from './synchronization.ts';

/** What a worker computes with, where that is not measured. */
export interface Speed {
  /** Operations a second of forward and backward passes. */
  readonly flopsPerSecond: number;
  /** Of the update of all that a worker owns, seconds. */
  readonly optimizerSeconds: number;
  /** In place of `flopsPerSecond`: seconds of both passes for one token. */
  readonly secondsPerToken?: number | undefined;
}

/** Share of a grain's time that is its backward pass. */
const BACKWARD_SHARE = 2 / 3;

/** Share of the experts in the time of a layer that has some. */
const EXPERT_SHARE = 2 / 3;

interface Stage {
  readonly number: number;
  /** Share of a grain's computation. */
  readonly share: number;
  readonly hasExperts: boolean;
  /** Of its gradients and of its new parameters, on all who hold them. */
  readonly reduce: OperationCost;
  readonly gather: OperationCost;
}

/** The shape of a step of a run on a cluster. */
export interface Schedule {
  /** From the head to the embedding, as backward passes complete them. */
  readonly stages: readonly Stage[];
  readonly grains: number;
  readonly tokensPerGrain: number;
  /** All rows of a layer that a grain sends to experts, one way, and before them their numbers. */
  readonly exchange: OperationCost;
  readonly counts: OperationCost;
  /** Rows of the busiest worker of a set of experts, against the mean. */
  readonly imbalance: number;
  readonly expertParallel: number;
  readonly agreement: OperationCost;
  /** How often a worker does all that in a step: for each of its replicas. */
  readonly perWorker: number;
  /** Nothing where all workers train one model. */
  readonly synchronization: Synchronization | undefined;
}

/** @param imbalance rows of the busiest worker of a set of experts, against the mean */
export function scheduleOf(config: RunConfig, cluster: Cluster, kind: TopologyKind, imbalance = 1): Schedule {
  const replicas = replicasPlan(config);
  if (!replicas) return scheduleOfOne(config, cluster, kind, imbalance);
  return {
    ...scheduleOfOne(replicas.replica, cluster, kind, imbalance),
    perWorker: replicas.perWorker,
    synchronization: synchronizationOf(replicas, cluster, kind),
  };
}

function scheduleOfOne(config: RunConfig, cluster: Cluster, kind: TopologyKind, imbalance: number): Schedule {
  const { model, batch, data, parallel } = config;
  const { workers, expertParallel } = parallel;
  const world = membersOf(workers, 1, cluster);
  const replicas = membersOf(workers / expertParallel, expertParallel, cluster);
  const experts = membersOf(expertParallel, 1, cluster);
  const bytes = stageBytes(config);
  const shares = computeShares(config);
  const withExperts = new Set(expertLayers(model));
  const tokensPerGrain = batch.grainSequences * data.sequenceLength;
  const last = model.numLayers + 1;
  const stages = Array.from({ length: last + 1 }, (_, number): Stage => {
    const { replicated, expert } = bytes[number]!;
    const collective = (sentOf: (bytes: StageBytes) => number[]) => {
      const costs = (members: Members, of: StageBytes) =>
        sentOf(of)
          .filter((sent) => sent > 0)
          .map((sent) => reduceScatterCost(cluster, members, sent, kind));
      return sumOf(...costs(world, replicated), ...costs(replicas, expert));
    };
    return {
      number,
      share: shares[number]!,
      // Stage 1 is the last layer.
      hasExperts: number > 0 && number < last && withExperts.has(model.numLayers - number),
      reduce: collective(({ gradients }) => [(gradientBytes(parallel) / 4) * gradients]),
      gather: collective(({ rounded, single }) => [rounded, single]),
    };
  });
  // Everybody waits for the busiest.
  const rowBytes =
    imbalance *
    activationElementBytes(config) *
    tokensPerGrain *
    (model.experts?.topK ?? 0) *
    model.hiddenSize;
  const grains = batch.sequences / batch.grainSequences;
  return {
    stages,
    grains: grains / workers,
    tokensPerGrain,
    expertParallel,
    exchange: allToAllCost(cluster, experts, rowBytes),
    counts: allToAllCost(cluster, experts, expertParallel > 1 ? 4 * (model.experts?.count ?? 0) : 0),
    imbalance,
    agreement: allReduceCost(cluster, world, agreementBytes(config), kind),
    ...{ perWorker: 1, synchronization: undefined },
  };
}

/** A step in the midst of others like it: the parameters that its first grain waits for come from the update before. */
export function stepTimes(schedule: Schedule, config: RunConfig, speed: Speed): StepTimes {
  const { perWorker, synchronization } = schedule;
  const one = stepTimesOfOne(schedule, config, speed);
  if (!synchronization) return one;
  const times = (value: number) => perWorker * value;
  const step = {
    compute: times(one.compute),
    optimizer: times(one.optimizer),
    exposed: {
      gather: times(one.exposed.gather),
      exchange: times(one.exposed.exchange),
      reduce: times(one.exposed.reduce),
      agree: times(one.exposed.agree),
      synchronize: 0,
    },
    communicate: times(one.communicate),
    total: times(one.total),
    underway: times(one.underway),
    bytesWithin: times(one.bytesWithin),
    bytesBetween: times(one.bytesBetween),
    messages: times(one.messages),
  };
  return withSynchronization(step, synchronization);
}

function stepTimesOfOne(schedule: Schedule, config: RunConfig, speed: Speed): StepTimes {
  const { stages, grains, tokensPerGrain, exchange, counts, expertParallel, agreement } = schedule;
  const flops = flopsPerToken(config.model, config.data.sequenceLength);
  const grainSeconds = tokensPerGrain * (speed.secondsPerToken ?? flops / speed.flopsPerSecond);
  const exposed = { gather: 0, exchange: 0, reduce: 0, agree: 0, synchronize: 0 };
  let [now, channel, underway] = [0, 0, 0];
  const launch = ({ seconds }: OperationCost) => {
    channel = Math.max(channel, now) + seconds;
    underway += seconds;
    return channel;
  };
  const waitUntil = (moment: number, reason: keyof typeof exposed) => {
    const seconds = Math.max(0, moment - now);
    exposed[reason] += seconds;
    now += seconds;
  };
  /** Operations that are under way have as much of the link, and are held up as long. */
  const besideOthers = ({ seconds, transferSeconds }: OperationCost) => {
    const shared = Math.min(transferSeconds, Math.max(0, channel - now));
    channel += shared;
    return seconds + shared;
  };
  const exchangeRows = (seconds: number, isForward: boolean) => {
    if (expertParallel === 1) return;
    const there = besideOthers(exchange) + (isForward ? counts.seconds : 0);
    const back = besideOthers(exchange);
    underway += there + back;
    const ofExperts = EXPERT_SHARE * seconds;
    // Own rows for own experts are computed on the way there; gradients of weights, half of a backward pass, on the way back.
    const [meanwhile, after] = isForward ? [1, 0] : [1 / 2, 1 / 2];
    const exposed =
      Math.max(0, there - (meanwhile * ofExperts) / expertParallel) + Math.max(0, back - after * ofExperts);
    // Then all wait for the busiest.
    waitUntil(now + exposed + (schedule.imbalance - 1) * ofExperts, 'exchange');
  };
  const pass = (stage: Stage, share: number, isForward: boolean) => {
    const seconds = grainSeconds * stage.share * share;
    if (stage.hasExperts) exchangeRows(seconds, isForward);
    now += seconds;
  };

  const forward = stages.toReversed();
  const gathered = new Map(forward.map((stage) => [stage.number, launch(stage.gather)]));
  for (let grain = 0; grain < grains; grain++) {
    for (const stage of forward) {
      if (grain === 0) waitUntil(gathered.get(stage.number)!, 'gather');
      pass(stage, 1 - BACKWARD_SHARE, true);
    }
    for (const stage of stages) {
      pass(stage, BACKWARD_SHARE, false);
      if (grain === grains - 1) launch(stage.reduce);
    }
  }
  waitUntil(channel, 'reduce');
  waitUntil(launch(agreement), 'agree');
  now += speed.optimizerSeconds;

  const compute = grains * grainSeconds;
  const communicate = Object.values(exposed).reduce((sum, seconds) => sum + seconds, 0);
  const layers = grains * stages.filter(({ hasExperts }) => hasExperts).length;
  const sent = (part: 'bytesWithin' | 'bytesBetween' | 'messages') =>
    stages.reduce((sum, { reduce, gather }) => sum + reduce[part] + gather[part], 0) +
    layers * (4 * exchange[part] + counts[part]) +
    agreement[part];
  return {
    ...{ compute, optimizer: speed.optimizerSeconds, exposed, communicate, total: now, underway },
    bytesWithin: sent('bytesWithin'),
    bytesBetween: sent('bytesBetween'),
    messages: sent('messages'),
  };
}

/** The share of each stage in a grain's computation: the head's products, the rest evenly among the layers. */
function computeShares({ model, data }: RunConfig): number[] {
  const all = flopsPerToken(model, data.sequenceLength);
  const head = (6 * model.vocabularySize * model.hiddenSize) / all;
  const layers = layerModels(model);
  return [head, ...layers.map(() => (1 - head) / layers.length), 0];
}

/** Of the vector that `Agreement` makes whole. */
function agreementBytes({ model, batch, optimizer }: RunConfig): number {
  const grains = batch.sequences / batch.grainSequences;
  const counts = (model.experts?.count ?? 0) * expertLayers(model).length;
  const heads = optimizer.qkClip ? model.numLayers * model.numAttentionHeads : 0;
  return 8 * (2 * grains + counts + 3 * blockLayout(model).count + heads);
}
