/** One layer of the paper's mixture of experts, 15B-A2B: attention, routing, 128 experts. */

import { shippedFile } from '@sluice/core';
import { selectBackend } from '@sluice/engine';
import { cudaBackend } from '@sluice/engine/cuda';
import { loadModel } from '../../run/loadModel.ts';
import { measureModel } from '../modelBench.ts';
import type { RunStep } from '../step.ts';
import { tinyOf } from './dense.ts';

/** Little of the embedding and of the output, which are not what is measured. */
const VOCABULARY = 4096;

export const runStep: RunStep = async (context) => {
  const whole = loadModel(shippedFile('configs/models/15b-a2b.yaml')).model;
  if (context.scale === 'tiny') {
    const model = tinyOf(whole);
    return measureModel(
      { name: 'a tiny layer of experts', model, sequenceLength: 64, sequences: 1, steps: 1 },
      context,
    );
  }
  await selectBackend('cuda');
  // Beside 11 GB of parameters, gradients and moments.
  const sequences = cudaBackend().device.driver.memory.free > 40e9 ? 4 : 1;
  const model = { ...whole, numLayers: 1, vocabularySize: VOCABULARY };
  return measureModel(
    { name: 'one layer of 15B-A2B', model, sequenceLength: 4096, sequences, steps: 5 },
    context,
  );
};
