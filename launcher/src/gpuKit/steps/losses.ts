/** The first steps of a model on `cuda`, in bf16 and in single precision, beside those on `native`: the same weights, the same data. */

import { join } from 'node:path';
import { readMetrics, terminalTable } from '@sluice/observe';
import { Laboratory, type RunSizes, runConfig } from '../laboratory.ts';
import type { RunStep, StepReport } from '../step.ts';

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
  const failures: Partial<Record<RunName, string>> = {};
  for (const [run, flags] of Object.entries(RUNS) as [RunName, string[]][]) {
    try {
      const { tokensPerSecond } = await laboratory.train(config, run, ...flags);
      speeds[run] = tokensPerSecond;
      for await (const { loss } of readMetrics(join(laboratory.path(run), 'metrics.jsonl')))
        losses[run].push(loss ?? Number.NaN);
    } catch (error) {
      // The others may be right.
      failures[run] = (error as Error).message;
    }
    context.keep({ losses, tokensPerSecond: speeds, failures });
  }
  return reportOf({ losses, tokensPerSecond: speeds, failures }, sizes.steps);
};

/** What the runs came to, of which some may have no losses, or less than others. */
interface Runs {
  readonly losses: Readonly<Record<RunName, readonly number[]>>;
  readonly tokensPerSecond: Partial<Record<RunName, number>>;
  readonly failures: Partial<Record<RunName, string>>;
}

export function reportOf({ losses, tokensPerSecond, failures }: Runs, steps: number): StepReport {
  const { native } = losses;
  /** Of a loss that is not there, no number. */
  const shareOf = (run: RunName, i: number) => Math.abs((losses[run][i] ?? Number.NaN) / native[i]! - 1);
  const worstOf = (run: RunName) => Math.max(...Array.from({ length: steps }, (_, i) => shareOf(run, i)));
  const worst = { cuda: worstOf('cuda'), f32: worstOf('f32') };
  const rows = Array.from({ length: steps }, (_, i) => [
    `${i + 1}`,
    native[i]?.toFixed(5) ?? '',
    losses.cuda[i]?.toFixed(5) ?? '',
    percent(shareOf('cuda', i), 2),
    losses.f32[i]?.toFixed(5) ?? '',
    percent(shareOf('f32', i), 5),
  ]);
  // What is no number is right nowhere.
  const isRight = worst.cuda <= ALLOWED.cuda && worst.f32 <= ALLOWED.f32;
  const failed = Object.entries(failures).map(([run, reason]) => `${run} failed: ${reason}`);
  return {
    verdict: isRight ? 'right' : 'wrong',
    summary:
      failed.join('; ').split('\n')[0] ||
      `${native.length} losses at most ${percent(worst.cuda, 2)} from native’s, in single precision ${percent(worst.f32, 5)}`,
    text: [
      terminalTable(rows, {
        header: ['step', 'native', 'bf16', 'apart', 'f32', 'apart'],
        align: ['right', 'right', 'right', 'right', 'right', 'right'],
      }),
      ...failed,
    ].join('\n'),
    data: { losses, tokensPerSecond, worst, failures },
  };
}

function percent(share: number, digits: number): string {
  return Number.isNaN(share) ? '' : `${(100 * share).toFixed(digits)} %`;
}
