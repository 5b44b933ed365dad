/** The paper's dense model of 1.7B on sequences of 4,096 tokens, or as many of its layers as the card has memory for. */

import { shippedFile } from '@sluice/core';
import { selectBackend } from '@sluice/engine';
import { cudaBackend } from '@sluice/engine/cuda';
import { countParameters, type ModelConfig } from '@sluice/model';
import { loadModel } from '../../run/loadModel.ts';
import { measureModel } from '../modelBench.ts';
import type { RunStep } from '../step.ts';

const SEQUENCE = 4096;
/** A parameter in single precision and bf16, its gradient, its moments. */
const PARAMETER_BYTES = 18;
/** What else there is, for a layer and for the logits. */
const [LAYER_BYTES, OTHER_BYTES] = [400e6, 4e9];

export const runStep: RunStep = async (context) => {
  const whole = loadModel(shippedFile('configs/models/1.7b-28l.yaml')).model;
  if (context.scale === 'tiny') {
    const model = tinyOf(whole);
    return measureModel({ name: 'a tiny model', model, sequenceLength: 64, sequences: 1, steps: 1 }, context);
  }
  await selectBackend('cuda');
  const { free } = cudaBackend().device.driver.memory;
  const model = fitting(whole, free);
  const name = model === whole ? '1.7B' : `${model.numLayers} layers of 1.7B, for want of memory`;
  return measureModel({ name, model, sequenceLength: SEQUENCE, sequences: 1, steps: 5 }, context);
};

/** The model, or as many of its layers as fit into so many bytes. */
export function fitting(model: ModelConfig, bytes: number): ModelConfig {
  const needs = (numLayers: number) =>
    PARAMETER_BYTES * countParameters({ ...model, numLayers }).total + numLayers * LAYER_BYTES + OTHER_BYTES;
  let { numLayers } = model;
  while (numLayers > 1 && needs(numLayers) > bytes) numLayers--;
  return numLayers === model.numLayers ? model : { ...model, numLayers };
}

/** The same model in small. */
export function tinyOf(model: ModelConfig): ModelConfig {
  return {
    ...model,
    ...{
      vocabularySize: 256,
      hiddenSize: 64,
      numLayers: 1,
      numAttentionHeads: 2,
      numKeyValueHeads: 1,
      headDim: 32,
    },
    ...(model.experts
      ? { experts: { ...model.experts, count: 4, topK: 2, intermediateSize: 32 } }
      : { intermediateSize: 96 }),
  };
}
