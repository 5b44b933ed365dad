/**
 * Measures the training step of one worker alone: forward, backward, clipping, AdamW, on random tokens. The shapes are
 * those of the PyTorch reference that Sluice is compared with.
 */

import { createHash } from 'node:crypto';
import {
  arithmetic,
  type Clock,
  cpuClock,
  deviceMeter,
  measureSgemmPeak,
  type Precision,
  type ProductPeak,
  profile,
  selectBackend,
  setThreads,
  threads,
  wallClock,
} from '@sluice/engine';
import { flopsPerToken } from '@sluice/model';
import { RunConfig } from './config.ts';
import { type StepProfile, stepProfile } from './stepProfile.ts';
import type { TokenSource } from './tokenSource.ts';
import { topology } from './topology.ts';
import { Trainer } from './trainer.ts';
import { soloWorkers } from './workers.ts';

interface Shape {
  readonly layers: number;
  readonly hidden: number;
  readonly headDim: number;
  readonly feedForward?: number;
  /** Keys of the model besides. */
  readonly model?: object;
  readonly experts?: { readonly count: number; readonly topK: number; readonly intermediateSize: number };
  readonly batch: number;
  readonly vocabulary?: number;
  readonly sequence?: number;
}

export const BENCH_SHAPES = {
  'dense-9m': { layers: 6, hidden: 256, headDim: 32, feedForward: 704, batch: 8 },
  'moe-20m': {
    layers: 6,
    hidden: 256,
    headDim: 32,
    experts: { count: 16, topK: 4, intermediateSize: 192 },
    batch: 8,
  },
  'dense-34m': { layers: 8, hidden: 512, headDim: 64, feedForward: 1408, batch: 4 },
  /** Three layers of Gated DeltaNet for each of attention, as Qwen3.5 has them, on longer sequences. */
  'hybrid-20m': {
    layers: 8,
    hidden: 384,
    headDim: 64,
    feedForward: 1024,
    batch: 2,
    sequence: 2048,
    model: {
      layers: {
        kinds: {
          linear: {
            mixer: { kind: 'gated-delta-net', keyHeads: 4, valueHeads: 8, keyDim: 64, valueDim: 64 },
          },
          full: {},
        },
        pattern: ['linear', 'linear', 'linear', 'full'],
      },
    },
  },
  /** So little arithmetic that what a step costs by itself shows. */
  'tiny-100k': {
    layers: 2,
    hidden: 32,
    headDim: 16,
    feedForward: 96,
    batch: 4,
    vocabulary: 768,
    sequence: 64,
  },
} as const satisfies Record<string, Shape>;

export type BenchShape = keyof typeof BENCH_SHAPES;

const VOCABULARY = 8192;
const SEQUENCE = 512;

export interface BenchStepOptions {
  readonly shape: BenchShape;
  readonly threads: number;
  /** Steps that are measured, after two that are not. */
  readonly steps: number;
  /** Sequences of a grain; the whole batch when left out. */
  readonly grainSequences?: number | undefined;
  readonly backend?: string | undefined;
  /** Of activations; the backend's own when left out. */
  readonly precision?: Precision | undefined;
  /** By what time is measured: what passes on the wall (the default), or what the process's threads compute. */
  readonly clock?: BenchClock | undefined;
  /** Whether as many steps again are profiled. */
  readonly profile?: boolean | undefined;
}

export type BenchClock = 'wall' | 'cpu';

export interface BenchStepResult {
  readonly shape: BenchShape;
  readonly arithmetic: string;
  readonly threads: number;
  readonly steps: number;
  /** Median over the measured steps. */
  readonly stepMs: number;
  readonly tokensPerSecond: number;
  readonly gflops: number;
  /** Rate of a 2048³ single-precision product in this process, where the host computes. */
  readonly sgemmPeakGflops?: number;
  /** Rate of a large product on the device in the step's precision, where one computes. */
  readonly devicePeak?: ProductPeak;
  /** The most memory that the steps took of the device, where one computes. */
  readonly peakDeviceBytes?: number;
  /** gflops ÷ that rate. */
  readonly utilization: number;
  readonly peakRssBytes: number;
  readonly lastLoss: number;
  readonly clock: BenchClock;
  readonly parameters: number;
  readonly profile?: StepProfile;
}

function benchConfig({ shape, grainSequences }: BenchStepOptions): RunConfig {
  const { layers, hidden, headDim, batch, vocabulary, sequence, ...inner }: Shape = BENCH_SHAPES[shape];
  return RunConfig.parse({
    model: {
      vocabularySize: vocabulary ?? VOCABULARY,
      hiddenSize: hidden,
      numLayers: layers,
      numAttentionHeads: 8,
      numKeyValueHeads: 4,
      headDim,
      ...(inner.experts ? { experts: { ...inner.experts, balanceCoefficient: 0.001, zCoefficient: 0 } } : {}),
      ...(inner.feedForward ? { intermediateSize: inner.feedForward } : {}),
      ...inner.model,
    },
    data: { recipe: 'random tokens', sequenceLength: sequence ?? SEQUENCE },
    parallel: { lanes: 1 },
    batch: { sequences: batch, grainSequences: grainSequences ?? batch },
    training: { steps: 1_000_000 },
    optimizer: { learningRate: 3e-4 },
  });
}

/** A trainer by itself, on tokens without meaning, the same in each run. */
export function loneTrainer(config: RunConfig): Trainer {
  const sampler = randomTokens(config.model.vocabularySize, config.data.sequenceLength);
  return new Trainer(config, topology(soloWorkers(), 1), { train: sampler, validation: sampler });
}

function randomTokens(vocabulary: number, sequenceLength: number): TokenSource {
  return {
    numSequences: 1 << 20,
    sequenceLength,
    read(sampleIndex, target) {
      const bytes = Buffer.concat(
        Array.from({ length: Math.ceil(target.length / 32) }, (_, i) =>
          createHash('sha512').update(`${sampleIndex}/${i}`).digest(),
        ),
      );
      for (let t = 0; t < target.length; t++) target[t] = bytes.readUInt16LE(2 * t) % vocabulary;
    },
  };
}

export const parametersOf = ({ spaces }: Trainer) => spaces.flatMap(({ space }) => space.parameters);

const CLOCKS: Readonly<Record<BenchClock, Clock>> = { wall: wallClock, cpu: cpuClock };

/** Steps that warm caches and the compiler of JavaScript, and are not measured. */
const WARM_UP = 2;

async function profileSteps(
  first: number,
  steps: number,
  takeStep: (step: number) => Promise<number>,
  clock: Clock,
): Promise<StepProfile> {
  const profiled = await profile(async () => {
    for (let i = 0; i < steps; i++) await takeStep(first + i);
  }, clock);
  return stepProfile(profiled, steps);
}

export async function benchStep(options: BenchStepOptions): Promise<BenchStepResult> {
  await selectBackend(options.backend ?? 'native', options.precision);
  setThreads(options.threads);
  const config = benchConfig(options);
  const sequence = config.data.sequenceLength;
  const trainer = loneTrainer(config);
  trainer.initialize();
  const clock = CLOCKS[options.clock ?? 'wall'];
  const takeStep = async (step: number) =>
    (await trainer.trainStep({ step, learningRate: config.optimizer.learningRate })).loss;
  const milliseconds: number[] = [];
  let lastLoss = Number.NaN;
  for (let step = 1; step <= WARM_UP + options.steps; step++) {
    const start = clock();
    lastLoss = await takeStep(step);
    if (step > WARM_UP) milliseconds.push(clock() - start);
  }
  const stepMs = milliseconds.sort((a, b) => a - b)[milliseconds.length >> 1]!;
  // Before anything else takes memory.
  const peakRssBytes = process.resourceUsage().maxRSS * 1024;
  const meter = deviceMeter();
  const peakDeviceBytes = meter?.peakBytes;
  const next = WARM_UP + options.steps + 1;
  const profiled = options.profile && (await profileSteps(next, options.steps, takeStep, clock));
  const devicePeak = await meter?.measurePeak();
  const peakGflops = devicePeak?.gflops ?? measureSgemmPeak(5, clock);
  const tokensPerSecond = (1000 * config.batch.sequences * sequence) / stepMs;
  const gflops = (flopsPerToken(config.model, sequence) * tokensPerSecond) / 1e9;
  return {
    shape: options.shape,
    arithmetic: arithmetic(),
    threads: threads(),
    steps: options.steps,
    stepMs,
    tokensPerSecond,
    gflops,
    ...(devicePeak ? { devicePeak } : { sgemmPeakGflops: peakGflops }),
    utilization: gflops / peakGflops,
    peakRssBytes,
    ...(peakDeviceBytes !== undefined && { peakDeviceBytes }),
    lastLoss,
    clock: options.clock ?? 'wall',
    parameters: parametersOf(trainer).reduce((sum, { spec }) => sum + spec.size, 0),
    ...(profiled && { profile: profiled }),
  };
}
