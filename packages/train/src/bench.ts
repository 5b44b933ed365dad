/**
 * Measures the training step of one worker alone: forward, backward, clipping, AdamW, on random tokens. The shapes are
 * those of the PyTorch reference that Sluice is compared with.
 */

import { createHash } from 'node:crypto';
import { arithmetic, measureSgemmPeak, selectBackend, setThreads, threads } from '@sluice/engine';
import { flopsPerToken } from '@sluice/model';
import type { TokenSource } from './batches.ts';
import { RunConfig } from './config.ts';
import { soloWorkers, topology } from './topology.ts';
import { Trainer } from './trainer.ts';

interface Shape {
  readonly layers: number;
  readonly hidden: number;
  readonly headDim: number;
  readonly feedForward?: number;
  readonly experts?: { readonly count: number; readonly topK: number; readonly intermediateSize: number };
  readonly batch: number;
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
}

export interface BenchStepResult {
  readonly shape: BenchShape;
  readonly arithmetic: string;
  readonly threads: number;
  readonly steps: number;
  /** Median over the measured steps. */
  readonly stepMs: number;
  readonly tokensPerSecond: number;
  readonly gflops: number;
  /** Rate of a 2048³ single-precision product in this process. */
  readonly sgemmPeakGflops: number;
  /** gflops ÷ sgemmPeakGflops. */
  readonly utilization: number;
  readonly peakRssBytes: number;
  readonly lastLoss: number;
}

export function benchConfig({ shape, grainSequences }: BenchStepOptions): RunConfig {
  const { layers, hidden, headDim, batch, ...inner }: Shape = BENCH_SHAPES[shape];
  return RunConfig.parse({
    model: {
      vocabularySize: VOCABULARY,
      hiddenSize: hidden,
      numLayers: layers,
      numAttentionHeads: 8,
      numKeyValueHeads: 4,
      headDim,
      ...(inner.experts ? { experts: { ...inner.experts, balanceCoefficient: 0.001, zCoefficient: 0 } } : {}),
      ...(inner.feedForward ? { intermediateSize: inner.feedForward } : {}),
    },
    data: { recipe: 'random tokens', sequenceLength: SEQUENCE },
    parallel: { lanes: 1 },
    batch: { sequences: batch, grainSequences: grainSequences ?? batch },
    training: { steps: 1_000_000 },
    optimizer: { learningRate: 3e-4 },
  });
}

/** Tokens without meaning, the same in each run. */
export function randomTokens(): TokenSource {
  return {
    numSequences: 1 << 20,
    sequenceLength: SEQUENCE,
    read(sampleIndex, target) {
      const bytes = Buffer.concat(
        Array.from({ length: Math.ceil(target.length / 32) }, (_, i) =>
          createHash('sha512').update(`${sampleIndex}/${i}`).digest(),
        ),
      );
      for (let t = 0; t < target.length; t++) target[t] = bytes.readUInt16LE(2 * t) % VOCABULARY;
    },
  };
}

export async function benchStep(options: BenchStepOptions): Promise<BenchStepResult> {
  await selectBackend(options.backend ?? 'native');
  setThreads(options.threads);
  const sgemmPeakGflops = measureSgemmPeak();
  const config = benchConfig(options);
  const sampler = randomTokens();
  const trainer = new Trainer(config, topology(soloWorkers(), 1), { train: sampler, validation: sampler });
  trainer.initialize();
  const milliseconds: number[] = [];
  let lastLoss = Number.NaN;
  for (let step = 1; step <= options.steps + 2; step++) {
    const start = performance.now();
    lastLoss = trainer.trainStep({ step, learningRate: config.optimizer.learningRate }).loss;
    if (step > 2) milliseconds.push(performance.now() - start);
  }
  const stepMs = milliseconds.sort((a, b) => a - b)[milliseconds.length >> 1]!;
  const tokensPerSecond = (1000 * config.batch.sequences * SEQUENCE) / stepMs;
  const gflops = (flopsPerToken(config.model, SEQUENCE) * tokensPerSecond) / 1e9;
  return {
    shape: options.shape,
    arithmetic: arithmetic(),
    threads: threads(),
    steps: options.steps,
    stepMs,
    tokensPerSecond,
    gflops,
    sgemmPeakGflops,
    utilization: gflops / sgemmPeakGflops,
    peakRssBytes: process.resourceUsage().maxRSS * 1024,
    lastLoss,
  };
}
