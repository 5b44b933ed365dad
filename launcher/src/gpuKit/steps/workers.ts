/** One worker against two: the same bits. */

import { terminalTable } from '@sluice/observe';
import { listGpus } from '../../backends/gpus.ts';
import { Laboratory, type RunSizes, runConfig } from '../laboratory.ts';
import type { RunStep } from '../step.ts';

/** Of small runs whose weights are compared. */
export const SMALL_RUNS: Readonly<Record<'full' | 'tiny', RunSizes>> = {
  full: {
    model: { hiddenSize: 256, numLayers: 2, headDim: 64, intermediateSize: 512 },
    sequenceLength: 128,
    steps: 8,
  },
  tiny: {
    model: { hiddenSize: 64, numLayers: 1, headDim: 32, intermediateSize: 32 },
    sequenceLength: 16,
    steps: 3,
  },
};

export const runStep: RunStep = async (context) => {
  const laboratory = new Laboratory(context);
  const sizes = SMALL_RUNS[context.scale];
  const hashes: Record<string, Record<string, string>> = {};
  for (const hasExperts of [false, true]) {
    const kind = hasExperts ? 'experts' : 'dense';
    const config = laboratory.write(
      `${kind}.yaml`,
      runConfig({ ...sizes, model: { ...sizes.model, hasExperts } }),
    );
    hashes[kind] = {};
    for (const workers of [1, 2]) {
      const flags = ['--backend', 'cuda', '--workers', `${workers}`];
      if (hasExperts && workers === 2) flags.push('--expert-parallel', '2');
      const { weightsHash } = await laboratory.train(config, `${kind}-${workers}`, ...flags);
      hashes[kind][`${workers}`] = weightsHash;
      context.keep({ hashes });
    }
  }
  const isSame = Object.values(hashes).every((of) => of['1'] === of['2']);
  const gpus = listGpus().length;
  const where = context.isEmulated ? 'emulated' : gpus > 1 ? 'each on a GPU of its own' : 'both on one GPU';
  const rows = Object.entries(hashes).map(([kind, of]) => [
    kind,
    of['1']!.slice(0, 16),
    of['2']!.slice(0, 16),
  ]);
  return {
    verdict: isSame ? 'right' : 'wrong',
    summary: `two workers, ${where}, come to ${isSame ? 'the weights' : 'other weights than those'} of one`,
    text: terminalTable(rows, { header: ['model', 'one worker', 'two workers'] }),
    data: { hashes, where },
  };
};
