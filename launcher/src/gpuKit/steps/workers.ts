/** One worker against two: the same bits. */

import { terminalTable } from '@sluice/observe';
import { listGpus } from '../../backends/gpus.ts';
import { Laboratory, type RunSizes, runConfig } from '../laboratory.ts';
import type { RunStep, StepReport } from '../step.ts';

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
  const failures: string[] = [];
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
      try {
        const { weightsHash } = await laboratory.train(config, `${kind}-${workers}`, ...flags);
        hashes[kind][`${workers}`] = weightsHash;
      } catch (error) {
        // The other model may be right.
        failures.push(`${kind}, ${workers}: ${(error as Error).message}`);
      }
      context.keep({ hashes, failures });
    }
  }
  const gpus = listGpus().length;
  const where = context.isEmulated ? 'emulated' : gpus > 1 ? 'each on a GPU of its own' : 'both on one GPU';
  return reportOf(hashes, failures, where);
};

/** @param hashes of weights, by models and numbers of workers; those of runs that failed are not there */
export function reportOf(
  hashes: Readonly<Record<string, Readonly<Record<string, string>>>>,
  failures: readonly string[],
  where: string,
): StepReport {
  const isSame = failures.length === 0 && Object.values(hashes).every((of) => of['1'] === of['2']);
  const rows = Object.entries(hashes).map(([kind, of]) => [
    kind,
    of['1']?.slice(0, 16) ?? 'failed',
    of['2']?.slice(0, 16) ?? 'failed',
  ]);
  return {
    verdict: isSame ? 'right' : 'wrong',
    summary:
      failures[0]?.split('\n')[0] ??
      `two workers, ${where}, come to ${isSame ? 'the weights' : 'other weights than those'} of one`,
    text: [terminalTable(rows, { header: ['model', 'one worker', 'two workers'] }), ...failures].join('\n'),
    data: { hashes, where, failures },
  };
}
