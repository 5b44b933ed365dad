/** The memory that one worker will take, from what `FlatSpace`, `GradientSums`, `ShardedOptimizer` and the native pool allocate. */

import { availableCores } from '@sluice/core';
import {
  arenaBytes,
  BACKENDS,
  deltaRuleBytes,
  muonScratchElements,
  pooledBytes,
  precisionOn,
  SHARE_OF_OTHERS,
  TOKENS_TOGETHER,
  takesChunks,
} from '@sluice/engine';
import {
  activationWidths,
  embeddingWidths,
  modelParameters,
  type RulePass,
  scratchElements,
  type Width,
} from '@sluice/model';
import type { RunConfig } from '../config.ts';
import { ownedTensors } from '../flatSpace.ts';
import { muonMatrix, wholeMatrices } from '../optimizer/settings.ts';
import { HELD_SNAPSHOTS, snapshotInterval } from '../rollback.ts';
import { linkBytes, ncclBytes, placeGradients } from './deviceMemory.ts';
import {
  areSomeRounded,
  gradientCopies,
  heldElements,
  type Placement,
  replicas,
  roundedElements,
  valueBytes,
} from './held.ts';
import { outerGradientBytes, type ReplicasPlan, replicasPlan } from './replicas.ts';

/** Bytes of the worker that takes most, by what they are for. */
export interface MemoryPlan {
  /** As passes read them, and the worker's own slices as they are trained, where that is not the same. */
  readonly parameters: number;
  /** Gradients with the partial sums of lanes that are there at once. */
  readonly gradients: number;
  /** Moments of the worker's own slices, and what Muon works in. */
  readonly optimizer: number;
  /** Of replicas that train apart: the weights that they have in common, their momentum, and differences from them. */
  readonly outerOptimizer?: number;
  /** What travels of these differences while training goes on, and their sum. */
  readonly outerGradients?: number;
  /** What the forward pass of one grain keeps, and the most that is there besides. */
  readonly activations: number;
  /** What threads of the host work in while they compute delta rules backward; it grows with the sequence. A device's are activations. */
  readonly scratch: number;
  /** Of GPUs that send each other gradients: what arrives, to be added up. */
  readonly gradientExchange?: number;
  /** An estimate of NCCL's own buffers, where GPUs of a host send to each other. */
  readonly nccl?: number;
  /** Rows on their way to experts that other workers hold, and back. */
  readonly expertExchange: number;
  /** The copy of the worker's part of a checkpoint that is written while training goes on. */
  readonly staging: number;
  /** States that a rollback may lead back to. */
  readonly snapshots: number;
  readonly total: number;
}

type MemoryParts = Omit<MemoryPlan, 'nccl' | 'total'>;

/** Of an element of a gradient on its way to the worker that sums it up. */
export function gradientBytes({ gradients }: RunConfig['parallel']): number {
  return gradients === 'bfloat16' ? 2 : 4;
}

/** Of the host, beside what a GPU has. */
export interface HostMemoryPlan extends Pick<MemoryPlan, 'gradients' | 'staging' | 'snapshots'> {
  /** What Muon works in, whose arithmetic is the host's, with copies of a matrix, its momentum and its gradient. */
  readonly optimizer?: number;
  readonly total: number;
}

/**
 * What a worker takes where it computes: of the host, or of its GPU.
 * @param deviceBytes that a GPU has; as many as are wanted when left out
 * @param devicesPerHost all workers in one host when left out
 */
export function planMemory(config: RunConfig, deviceBytes?: number, devicesPerHost?: number): MemoryPlan {
  const replicas = replicasPlan(config);
  const plan = {
    ...(replicas ? memoryOfReplicas(config, replicas) : memoryOfOne(config, deviceBytes, devicesPerHost)),
    ...(isOnDevice(config) && { nccl: ncclBytes(config, devicesPerHost) }),
  };
  return { ...plan, total: totalOf(plan) };
}

/** What a worker that computes on a GPU takes of the host; undefined for others. */
export function planHostMemory(
  config: RunConfig,
  deviceBytes?: number,
  devicesPerHost?: number,
): HostMemoryPlan | undefined {
  if (!isOnDevice(config)) return undefined;
  const plan = {
    gradients: placeGradients(config, gradientRoom(config, deviceBytes, devicesPerHost)).onHost,
    ...(config.optimizer.kind === 'muon' && { optimizer: muonBytesOnHost(config) }),
    ...copiesOnHost(config),
  };
  return { ...plan, total: totalOf(plan) };
}

const isOnDevice = ({ backend }: RunConfig) => backend === 'cuda';

const totalOf = (plan: object) => Object.values(plan).reduce<number>((sum, bytes) => sum + bytes, 0);

/** What a GPU has beside parameters, moments and what passes need. */
function gradientRoom(
  config: RunConfig,
  deviceBytes = Number.POSITIVE_INFINITY,
  devicesPerHost?: number,
): number {
  const others = parameterBytes(config) + optimizerBytes(config) + passBytes(config, devicesPerHost);
  return (1 - SHARE_OF_OTHERS) * deviceBytes - others;
}

function copiesOnHost(config: RunConfig): Pick<MemoryPlan, 'staging' | 'snapshots'> {
  return {
    staging: config.checkpoint.asynchronous ? savedBytes(config) : 0,
    snapshots: snapshotInterval(config) > 0 ? HELD_SNAPSHOTS * savedBytes(config) : 0,
  };
}

/** Each replica of a worker has all of its own but activations; beside them are the outer weights, their momentum, and differences. */
function memoryOfReplicas(config: RunConfig, plan: ReplicasPlan): MemoryParts {
  const { replica, perWorker, parts, settings } = plan;
  const { parameters, gradients, optimizer, activations, scratch, expertExchange } = memoryOfOne(replica);
  const owned = savedBytes(replica, 4);
  return {
    parameters: perWorker * parameters,
    gradients: perWorker * gradients,
    optimizer: perWorker * optimizer,
    outerOptimizer: (2 + perWorker * Math.max(...parts)) * owned,
    ...(settings.overlapSteps > 0 && { outerGradients: travellingBytes(plan) }),
    ...{ activations, scratch, expertExchange },
    staging: config.checkpoint.asynchronous ? savedBytes(config) : 0,
    snapshots: 0,
  };
}

/** The sum, which is sent as it is; rounded differences are sent, and come, from memory of their own. */
function travellingBytes({ replica, perWorker, parts, settings }: ReplicasPlan): number {
  const sum = Math.max(...parts) * savedBytes(replica, 4);
  const rounded = settings.outerGradients === 'int8' ? outerGradientBytes(settings, sum / 4) : 0;
  return sum + 2 * perWorker * rounded;
}

function memoryOfOne(config: RunConfig, deviceBytes?: number, devicesPerHost?: number): MemoryParts {
  const { expertParallel } = config.parallel;
  const held = heldElements(config);
  return {
    parameters: parameterBytes(config),
    ...(isOnDevice(config)
      ? {
          gradients: placeGradients(config, gradientRoom(config, deviceBytes, devicesPerHost)).onDevice,
          gradientExchange: linkBytes(config, devicesPerHost),
        }
      : { gradients: 4 * gradientCopies(config) * (held.replicated + expertParallel * held.expert) }),
    optimizer: optimizerBytes(config),
    activations: activationBytes(config),
    scratch: scratchBytes(config),
    // With a GPU, rows that go by way of the host are the host's, as copies are.
    ...(isOnDevice(config)
      ? { expertExchange: 0, staging: 0, snapshots: 0 }
      : { expertExchange: expertExchangeBytes(config), ...copiesOnHost(config) }),
  };
}

/** Of an activation, and of a weight in a product. */
export function activationElementBytes(config: RunConfig): number {
  return areSomeRounded(config) ? 2 : 4;
}

/** What passes read of parameters, and what is trained of those that this is not. */
function parameterBytes(config: RunConfig): number {
  const { replicated, expert } = valueBytes(config);
  const trained = mostOwned(
    config,
    ({ isRounded }) => (isRounded ? 4 : 0),
    () => 0,
  );
  return replicated + expert + trained;
}

/**
 * What a step will take on a device where parameters, gradients and moments are there: activations, and what arrives of others' gradients.
 * @param devicesPerHost all workers in one host when left out
 */
export function passBytes(config: RunConfig, devicesPerHost?: number): number {
  return activationBytes(config) + linkBytes(config, devicesPerHost);
}

/** Moments of the worker's own slices; Muon has one for a matrix, which nobody shares, and works in memory of its own, of the host. */
function optimizerBytes(config: RunConfig): number {
  const momentsOf = ({ isMuon }: Owned) => (isMuon ? 4 : 8);
  const scratch = isOnDevice(config) ? () => 0 : muonScratchBytes;
  return mostOwned(config, momentsOf, scratch);
}

const muonScratchBytes = (matrices: MuonMatrix[]) => 4 * muonScratchElements(matrices);

function muonBytesOnHost(config: RunConfig): number {
  const copies = (matrices: MuonMatrix[]) =>
    3 * 4 * Math.max(0, ...matrices.map(({ rows, columns }) => rows * columns));
  return mostOwned(
    config,
    () => 0,
    (matrices) => muonScratchBytes(matrices) + copies(matrices),
  );
}

/**
 * A worker's part of a checkpoint: the values and moments of its own slices; of replicas that train apart those of each, and of the
 * first ones' workers what all have in common, and the largest part of the differences where these may be on their way.
 * @param bytes of an element that it owns, where not of all that is saved
 */
export function savedBytes(config: RunConfig, bytes?: number): number {
  const replicas = replicasPlan(config);
  if (replicas) {
    const { replica, perWorker, parts, settings } = replicas;
    const sent = settings.overlapSteps > 0 ? Math.max(...parts) * savedBytes(replica, 4) : 0;
    return perWorker * (savedBytes(replica) + sent) + savedBytes(replica, 8);
  }
  return mostOwned(
    config,
    ({ isMuon }) => bytes ?? (isMuon ? 8 : 12),
    () => 0,
  );
}

type MuonMatrix = NonNullable<ReturnType<typeof muonMatrix>>;

/** What a worker owns: whether Muon trains it, and whether passes read it rounded. */
interface Owned {
  readonly isMuon: boolean;
  readonly isRounded: boolean;
}

/**
 * The most that a worker has for what it owns.
 * @param bytesOf of an element
 * @param beside what there is for all of its Muon's matrices
 */
function mostOwned(
  config: RunConfig,
  bytesOf: (owned: Owned) => number,
  beside: (matrices: MuonMatrix[]) => number,
): number {
  const shared = replicas(config);
  if (config.optimizer.kind === 'adamw') {
    const [all, rounded] = [heldElements(config), roundedElements(config)];
    const perElement = (isRounded: boolean) => bytesOf({ isMuon: false, isRounded });
    const owned = (placement: Placement) =>
      (perElement(true) * rounded[placement] + perElement(false) * (all[placement] - rounded[placement])) /
      shared[placement];
    return owned('replicated') + owned('expert');
  }
  const shard = { rank: 0, size: config.parallel.expertParallel };
  const specs = modelParameters(config.model, shard);
  const whole = wholeMatrices(config.optimizer);
  const most = (placement: Placement) => {
    const isRounding = areSomeRounded(config);
    const bytes = ownedTensors(placement, specs, shared[placement], whole, isRounding).map((owned) => {
      const muons = owned.map(({ spec, tensor }) => muonMatrix(config.optimizer, spec, tensor));
      const each = owned.map(({ elements, spec }, i) => {
        const isRounded = isRounding && spec.readIn === 'activations';
        return elements * bytesOf({ isMuon: muons[i] !== undefined, isRounded });
      });
      return beside(muons.filter((one) => one !== undefined)) + each.reduce((sum, one) => sum + one, 0);
    });
    return Math.max(...bytes);
  };
  return most('replicated') + (config.model.experts ? most('expert') : 0);
}

/** Tokens of one grain. */
function grainTokens({ batch, data }: Pick<RunConfig, 'batch' | 'data'>): number {
  return batch.grainSequences * data.sequenceLength;
}

function activationBytes(config: RunConfig): number {
  const { model } = config;
  const onDevice = isOnDevice(config);
  const rows = grainTokens(config);
  const bytes = activationElementBytes(config);
  const taken = onDevice ? arenaBytes : pooledBytes;
  const bytesOf = (widths: readonly Width[]) =>
    widths
      .map((width) => rowBytes(width, bytes))
      .filter((ofRow) => ofRow > 0)
      .reduce((sum, ofRow) => sum + taken(ofRow * rows), 0);
  const layers = activationWidths(model, {
    sequenceLength: config.data.sequenceLength,
    areExpertsShared: config.parallel.expertParallel > 1,
    isOnDevice: onDevice,
  });
  let [below, most] = [onDevice ? bytesOf(embeddingWidths(model)) : 0, 0];
  for (const { layer, peaks, rulePass } of layers) {
    const ofRule = rulePass ? bytesOf(rulePass.widths) + ruleBytes(config, rulePass) : 0;
    most = Math.max(most, below + Math.max(ofRule, ...peaks.map(bytesOf)));
    below += bytesOf(layer);
  }
  if (!onDevice) return most;
  // The loss: the last layer's output, its norm, the gradient of that; and logits with their gradients, of some tokens at a time.
  const { hiddenSize, vocabularySize, logitScale } = model;
  const logits = Math.min(rows, TOKENS_TOGETHER) * vocabularySize;
  const scaled = logitScale === undefined ? [] : [hiddenSize];
  const ofLoss = bytesOf([hiddenSize, hiddenSize, hiddenSize, ...scaled, { words: 2 }, { words: 1 }]);
  const withLogits = below + ofLoss + arenaBytes(4 * logits) + arenaBytes(bytes * logits);
  return Math.max(most, withLogits) + tableBytes(config);
}

/** Documents that are assumed in a sequence where they are kept apart. */
const DOCUMENTS_OF_SEQUENCE = 8;

/** What a device's kernels work in while they form the gradients of a delta rule. */
function ruleBytes(config: RunConfig, { rule }: RulePass): number {
  const { sequenceLength, documents } = config.data;
  const layout = { ...rule, batch: config.batch.grainSequences, sequence: sequenceLength };
  const count = layout.batch * DOCUMENTS_OF_SEQUENCE;
  const starts = Int32Array.from({ length: count }, (_, i) => (i * sequenceLength) / DOCUMENTS_OF_SEQUENCE);
  const apart = documents === 'separate' ? { ...layout, documents: starts } : layout;
  const storage = precisionOn(BACKENDS[config.backend], config.precision);
  const working = deltaRuleBytes(apart, storage, true);
  if (storage === 'f32' || takesChunks(rule, storage)) return working;
  // The recurrence takes single precision: queries, keys and values, and their gradients in both forms.
  const { heads, keyDim, valueDim } = rule;
  const elements = [keyDim, keyDim, valueDim].map((channels) => grainTokens(config) * heads * channels);
  return elements.reduce((sum, count) => sum + arenaBytes(4 * count) + arenaBytes(2 * count), working);
}

/** @param bytes of an activation */
function rowBytes(width: Width, bytes: number): number {
  return typeof width === 'number' ? width * bytes : width.words * 4;
}

/** What a device keeps for all layers: cosines and sines of each position, and where each token is. */
function tableBytes(config: RunConfig): number {
  const { sequenceLength } = config.data;
  return arenaBytes(4 * sequenceLength * config.model.headDim) + arenaBytes(4 * grainTokens(config));
}

/** Of all threads of the host, each of which has its own while a document has heads for it. */
function scratchBytes(config: RunConfig): number {
  if (isOnDevice(config)) return 0;
  const { model, data, parallel } = config;
  const threads = parallel.threads || Math.max(1, Math.floor(availableCores().count / parallel.workers));
  return 4 * threads * scratchElements(model, data.sequenceLength);
}

/** An outgoing and an incoming buffer, which grow in steps of a quarter. Balanced experts are assumed. */
function expertExchangeBytes(config: RunConfig): number {
  const { model, parallel } = config;
  if (!model.experts || parallel.expertParallel === 1) return 0;
  return Math.ceil(2 * 1.25 * 4 * grainTokens(config) * model.experts.topK * model.hiddenSize);
}
