/** The first steps of a model on `cuda`, in bf16 and in single precision, beside those on `native`: the same weights, the same data. */

import { join } from 'node:path';
import { readMetrics, terminalTable } from '@sluice/observe';
import { Laboratory, type RunSizes, runConfig } from '../laboratory.ts';
import type { RunStep } from '../step.ts';

/** 30 M parameters; what the emulator can do in its time. */
const SIZES: Readonly<Record<'full' | 'tiny', RunSizes>> = {
  full: {
    model: { hiddenSize: 512, numLayers: 9, headDim: 64, intermediateSize: 1408 },
    sequenceLength: 256,
    steps: 20,
  },
  tiny: {
    model: { hiddenSize: 64, numLayers: 1, headDim: 32, intermediateSize: 64 },
    sequenceLength: 32,
    steps: 6,
  },
};

/** Runs by their names, with what they compute by. */
const RUNS = {
  native: ['--backend', 'native'],
  cuda: ['--backend', 'cuda'],
  f32: ['--backend', 'cuda', '--precision', 'f32'],
};
type RunName = keyof typeof RUNS;

/** By how much a loss may be another than native's, as a share of it: activations have eight bits; or sums are in another order. */
const ALLOWED = { cuda: 0.02, f32: 1e-4 };

export const runStep: RunStep = async (context) => {
  const laboratory = new Laboratory(context);
  const sizes = SIZES[context.scale];
  const config = laboratory.write('losses.yaml', runConfig(sizes));
  const losses: Record<RunName, number[]> = { native: [], cuda: [], f32: [] };
  const speeds: Partial<Record<RunName, number>> = {};
  for (const [run, flags] of Object.entries(RUNS) as [RunName, string[]][]) {
    const { tokensPerSecond } = await laboratory.train(config, run, ...flags);
    speeds[run] = tokensPerSecond;
    for await (const { loss } of readMetrics(join(laboratory.path(run), 'metrics.jsonl')))
      losses[run].push(loss ?? Number.NaN);
    context.keep({ losses, tokensPerSecond: speeds });
  }
  const { native } = losses;
  const sharesOf = (run: RunName) => native.map((loss, i) => Math.abs(losses[run][i]! / loss - 1));
  const shares = { cuda: sharesOf('cuda'), f32: sharesOf('f32') };
  const worst = { cuda: Math.max(...shares.cuda), f32: Math.max(...shares.f32) };
  const rows = native.map((loss, i) => [
    `${i + 1}`,
    loss.toFixed(5),
    losses.cuda[i]!.toFixed(5),
    `${(100 * shares.cuda[i]!).toFixed(2)} %`,
    losses.f32[i]!.toFixed(5),
    `${(100 * shares.f32[i]!).toFixed(5)} %`,
  ]);
  const isRight = worst.cuda <= ALLOWED.cuda && worst.f32 <= ALLOWED.f32 && native.length === sizes.steps;
  return {
    verdict: isRight ? 'right' : 'wrong',
    summary: `${native.length} losses at most ${(100 * worst.cuda).toFixed(2)} % from native’s, in single precision ${(100 * worst.f32).toFixed(5)} %`,
    text: terminalTable(rows, {
      header: ['step', 'native', 'bf16', 'apart', 'f32', 'apart'],
      align: ['right', 'right', 'right', 'right', 'right', 'right'],
    }),
    data: { losses, tokensPerSecond: speeds, worst },
  };
};
