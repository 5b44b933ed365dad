/** Runs of sizes that the kernels of `cuda` have, as small as they allow. */

import type { Precision } from '@sluice/engine';
import type { RunConfig } from '@sluice/train';
import { tinyRun } from './tinyTrainer.ts';

export const CUDA_KINDS = ['dense', 'experts'] as const;
export type CudaKind = (typeof CUDA_KINDS)[number];

/** @param precision of activations; that of the backend when left out */
export function cudaRun(kind: CudaKind, precision?: Precision): RunConfig {
  const inner = {
    dense: { experts: undefined, intermediateSize: 48 },
    experts: { experts: { count: 4, topK: 2, intermediateSize: 16, sharedIntermediateSize: 16 } },
  }[kind];
  const run = tinyRun({ model: { hiddenSize: 32, headDim: 32, numLayers: 1, ...inner }, lanes: 2 });
  return precision ? { ...run, precision } : run;
}
