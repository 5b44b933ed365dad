/** A valid configuration with changes. */

import { RunConfig } from '@sluice/train';

/** Two lanes, four grains, eight experts on two workers. */
export const SMALL_CONFIG = {
  model: {
    vocabularySize: 64,
    hiddenSize: 8,
    numLayers: 1,
    numAttentionHeads: 2,
    numKeyValueHeads: 1,
    headDim: 4,
    experts: { count: 8, topK: 2, intermediateSize: 8 },
  },
  data: { recipe: 'recipe.yaml', sequenceLength: 16 },
  parallel: { workers: 2, expertParallel: 2, lanes: 2 },
  batch: { sequences: 8, grainSequences: 2 },
  training: { steps: 10 },
  optimizer: { learningRate: 0.001 },
  evaluation: { everySteps: 0 },
  checkpoint: { everySteps: 0 },
};

type Sections = { [Section in keyof typeof SMALL_CONFIG | 'initialize' | 'schedule' | 'spikes']?: object };

export function smallConfig(changes: Sections = {}): RunConfig {
  const merged = Object.entries(SMALL_CONFIG).map(([name, section]) => [
    name,
    { ...section, ...changes[name as keyof Sections] },
  ]);
  return RunConfig.parse({ ...changes, ...Object.fromEntries(merged) });
}
