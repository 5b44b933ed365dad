/** Runs of sizes that the kernels of `cuda` have, as small as they allow. */

import type { RunConfig } from '@sluice/train';
import { tinyRun } from './tinyTrainer.ts';

export const CUDA_KINDS = ['dense', 'experts'] as const;
export type CudaKind = (typeof CUDA_KINDS)[number];

export function cudaRun(kind: CudaKind): RunConfig {
  const inner = {
    dense: { experts: undefined, intermediateSize: 48 },
    experts: { experts: { count: 4, topK: 2, intermediateSize: 16, sharedIntermediateSize: 16 } },
  }[kind];
  return tinyRun({ model: { hiddenSize: 32, headDim: 32, numLayers: 1, ...inner }, lanes: 2 });
}
