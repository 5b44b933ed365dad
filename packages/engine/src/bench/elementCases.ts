/** Kernels that memory limits: norms, sums, embedding, optimizer. */

import { BLOCK_ELEMENTS } from '@sluice/core';
import { adamW } from '../adamW.ts';
import { roundToBfloat16, sumTreeBfloat16 } from '../bfloat16.ts';
import { callNative } from '../native.ts';
import { squaredNorms, sumTree } from '../reductions.ts';
import { filled, type Work } from './measure.ts';

const [TOKENS, CHANNELS, VOCABULARY] = [4096, 256, 8192];
const ACTIVATIONS = TOKENS * CHANNELS;
/** Parameters of a flat buffer. */
const PARAMETERS = 1 << 23;
const FLOAT = 4;

function rmsNorm(isBackward: boolean): Work {
  const [x, y, dx] = [filled(ACTIVATIONS), filled(ACTIVATIONS), filled(ACTIVATIONS)];
  const [weight, dWeight] = [filled(CHANNELS), filled(CHANNELS)];
  if (!isBackward) {
    return {
      run: () => void callNative('rmsNorm', x, weight, y, TOKENS, CHANNELS, 1e-6),
      bytes: 2 * FLOAT * ACTIVATIONS,
    };
  }
  const arrays = [x, weight, y, dx, dWeight];
  return {
    run: () => void callNative('rmsNormBackward', ...arrays, TOKENS, CHANNELS, 1e-6, false),
    bytes: 3 * FLOAT * ACTIVATIONS,
  };
}

function embedding(isBackward: boolean): Work {
  const ids = Int32Array.from({ length: TOKENS }, (_, i) => (i * 7919) % VOCABULARY);
  const [table, y] = [filled(VOCABULARY * CHANNELS), filled(ACTIVATIONS)];
  const sizes = [TOKENS, VOCABULARY, CHANNELS];
  if (!isBackward) {
    return {
      run: () => void callNative('embedding', ids, table, y, ...sizes),
      bytes: 2 * FLOAT * ACTIVATIONS,
    };
  }
  return {
    run: () => void callNative('embeddingBackward', ids, y, table, ...sizes, false),
    // The table's gradient is cleared, then rows are read and added.
    bytes: FLOAT * (VOCABULARY * CHANNELS + 3 * ACTIVATIONS),
  };
}

const residual = (): Work => {
  const [x, y] = [filled(ACTIVATIONS), filled(ACTIVATIONS, 1e-6)];
  return { run: () => void callNative('add', x, y, y, ACTIVATIONS), bytes: 3 * FLOAT * ACTIVATIONS };
};

const adamWCase = (): Work => {
  const [parameters, gradients] = [filled(PARAMETERS), filled(PARAMETERS)];
  const [firstMoment, secondMoment] = [filled(PARAMETERS), filled(PARAMETERS).map(Math.abs)];
  const settings = { learningRate: 1e-4, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1, step: 10 };
  const buffers = { parameters, gradients, firstMoment, secondMoment };
  const sums = new Float64Array(2 * (PARAMETERS / BLOCK_ELEMENTS));
  return {
    run: () => adamW(buffers, { ...settings, gradientScale: 0.5 }, sums),
    bytes: 7 * FLOAT * PARAMETERS,
  };
};

const norms = (): Work => {
  const values = filled(PARAMETERS);
  return { run: () => void squaredNorms(values), bytes: FLOAT * PARAMETERS };
};

const sum = (sources: number): Work => {
  const arrays = Array.from({ length: sources }, () => filled(PARAMETERS / 4, 1e-3));
  const target = new Float32Array(PARAMETERS / 4);
  return { run: () => sumTree(target, arrays), bytes: (sources + 1) * FLOAT * (PARAMETERS / 4) };
};

const roundedSum = (sources: number): Work => {
  const arrays = Array.from({ length: sources }, () => {
    const halves = new Uint16Array(PARAMETERS / 4);
    roundToBfloat16(filled(PARAMETERS / 4, 1e-3), halves);
    return halves;
  });
  const target = filled(PARAMETERS / 4, 1e-3);
  return {
    run: () => {
      roundToBfloat16(target, arrays[0]!);
      sumTreeBfloat16(target, arrays);
    },
    bytes: (2 * FLOAT + ((sources + 1) * FLOAT) / 2) * (PARAMETERS / 4),
  };
};

export const elementCases = {
  'RMS norm, 4096 × 256': () => rmsNorm(false),
  'RMS norm backward, 4096 × 256': () => rmsNorm(true),
  'residual sum, 4096 × 256': residual,
  'embedding, 4096 of 8192 × 256': () => embedding(false),
  'embedding backward, 4096 of 8192 × 256': () => embedding(true),
  'AdamW, 8.4 M parameters': adamWCase,
  'squared norms, 8.4 M': norms,
  'sum of 2 × 2.1 M': () => sum(2),
  'sum of 8 × 2.1 M': () => sum(8),
  'rounded sum of 2 × 2.1 M': () => roundedSum(2),
};
