/** The first steps of a model on `cuda` beside those on `native`: the same weights, the same data. */

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

/** By how much a loss may be another than native's, as a share of it: activations have eight bits. */
const ALLOWED = 0.02;

export const runStep: RunStep = async (context) => {
  const laboratory = new Laboratory(context);
  const sizes = SIZES[context.scale];
  const config = laboratory.write('losses.yaml', runConfig(sizes));
  const losses: Record<string, number[]> = {};
  const speeds: Record<string, number> = {};
  for (const backend of ['native', 'cuda']) {
    const { tokensPerSecond } = await laboratory.train(config, backend, '--backend', backend);
    speeds[backend] = tokensPerSecond;
    losses[backend] = [];
    for await (const { loss } of readMetrics(join(laboratory.path(backend), 'metrics.jsonl')))
      losses[backend].push(loss ?? Number.NaN);
    context.keep({ losses, tokensPerSecond: speeds });
  }
  const [native, cuda] = [losses.native!, losses.cuda!];
  const shares = native.map((loss, i) => Math.abs(cuda[i]! / loss - 1));
  const worst = Math.max(...shares);
  const rows = native.map((loss, i) => [
    `${i + 1}`,
    loss.toFixed(5),
    cuda[i]!.toFixed(5),
    `${(100 * shares[i]!).toFixed(2)} %`,
  ]);
  return {
    verdict: worst <= ALLOWED && native.length === sizes.steps ? 'right' : 'wrong',
    summary: `${native.length} losses at most ${(100 * worst).toFixed(2)} % from native’s`,
    text: terminalTable(rows, {
      header: ['step', 'native', 'cuda', 'apart'],
      align: ['right', 'right', 'right', 'right'],
    }),
    data: { losses, tokensPerSecond: speeds, worst },
  };
};
