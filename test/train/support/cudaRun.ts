/** A dense run of sizes that the kernels of `cuda` have, as small as they allow. */

import type { RunConfig } from '@sluice/train';
import { tinyRun } from './tinyTrainer.ts';

export function cudaRun(): RunConfig {
  return tinyRun({
    model: { hiddenSize: 32, headDim: 32, numLayers: 1, experts: undefined, intermediateSize: 48 },
    lanes: 2,
  });
}
