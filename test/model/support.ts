/** A decoder with random parameters, for comparing backends, and its loss with all gradients. */

import { computeGradients, type Floats, flatMemory, Parameter } from '@sluice/engine';
import { Decoder, initializeTensor, ModelConfig, modelParameters } from '@sluice/model';
import * as tf from '@tensorflow/tfjs';
import { randomValues } from '../engine/support/differential.ts';

export const VOCABULARY = 24;

/** A model of a few thousand parameters with the given keys. */
export function tinyModel(keys: object = {}): ModelConfig {
  return ModelConfig.parse({
    vocabularySize: VOCABULARY,
    hiddenSize: 16,
    numLayers: 1,
    numAttentionHeads: 4,
    numKeyValueHeads: 2,
    headDim: 8,
    intermediateSize: 12,
    ...keys,
  });
}

export function tokens(count: number, seed = 1): Int32Array {
  return Int32Array.from(randomValues(seed, count, VOCABULARY / 2), (x) => Math.floor(x + VOCABULARY / 2));
}

export interface TinyDecoder {
  readonly decoder: Decoder;
  readonly parameters: ReadonlyMap<string, Parameter>;
}

/** @param noise added to all initial values, so that no part of the model is idle */
export function tinyDecoder(model: ModelConfig, noise = 0.3): TinyDecoder {
  const parameters = new Map(
    modelParameters(model).map((spec, index) => {
      const values = new Float32Array(spec.size);
      for (const tensor of spec.tensors) {
        const { offset, size } = tensor;
        initializeTensor(tensor, values.subarray(offset, offset + size), model, 7);
      }
      randomValues(index + 1, spec.size, noise).forEach((x, i) => {
        values[i]! += x;
      });
      const memory = flatMemory();
      const parameter = new Parameter(spec.name, spec.shape, memory.make(spec.size));
      memory.write(parameter.values, values);
      return [spec.name, parameter];
    }),
  );
  return { decoder: new Decoder(model, parameters), parameters };
}

export interface Pass {
  readonly loss: number;
  readonly logits: Float32Array;
  readonly gradients: Readonly<Record<string, Float32Array>>;
}

const SEQUENCES = 2;
const LENGTH = 5;

/** Two documents in the first sequence, three in the second. */
export const DOCUMENTS = Int32Array.of(0, 3, 5, 6, 8);

/** Loss and gradients of a small batch on the running backend. */
export function lossAndGradients(
  { decoder, parameters }: TinyDecoder,
  documents?: Int32Array,
): Omit<Pass, 'logits'> {
  const memory = flatMemory();
  const gradients: Record<string, Floats> = {};
  for (const [name, parameter] of parameters) {
    gradients[name] = memory.make(parameter.values.length);
    let isWritten = false;
    parameter.sink = () => {
      const accumulate = isWritten;
      isWritten = true;
      return { values: gradients[name]!, accumulate };
    };
  }
  const loss = computeGradients(() => decoder.loss({ ...batch(), documents }));
  const read = Object.entries(gradients).map(([name, gradient]) => [name, memory.read(gradient)]);
  return { loss, gradients: Object.fromEntries(read) };
}

/** The loss alone. */
export function lossOf({ decoder }: TinyDecoder): number {
  const loss = decoder.loss(batch());
  const [value] = loss.dataSync();
  loss.dispose();
  return value!;
}

/** Two sequences of five tokens. */
export function batch() {
  const inputs = tokens(SEQUENCES * LENGTH);
  const targets = tokens(SEQUENCES * LENGTH, 2);
  return { inputs, targets, sequences: SEQUENCES, totalTokens: inputs.length, expertLoads: [] };
}

/** Everything that a model computes, on a backend. */
export function passOn(backend: string, model: ModelConfig, documents?: Int32Array): Pass {
  tf.setBackend(backend);
  const tiny = tinyDecoder(model);
  const pass = lossAndGradients(tiny, documents);
  const logits = tf.tidy(() =>
    tiny.decoder
      .logits({ inputs: tokens(SEQUENCES * LENGTH), sequences: SEQUENCES, documents })
      .dataSync<'float32'>()
      .slice(),
  );
  for (const { tensor } of tiny.parameters.values()) tensor.dispose();
  return { ...pass, logits: logits as Float32Array };
}
