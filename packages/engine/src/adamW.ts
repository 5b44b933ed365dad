/** The optimizer's arithmetic on flat buffers. */

import { BLOCK_ELEMENTS, elementary, invariant } from '@sluice/core';
import { callNative, nativeCore } from './native.ts';

/** Views of equal length; `parameters` and both moments are changed. */
export interface AdamWBuffers<Memory = Float32Array> {
  readonly parameters: Memory;
  readonly gradients: Memory;
  readonly firstMoment: Memory;
  readonly secondMoment: Memory;
}

export interface AdamWSettings {
  readonly learningRate: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  /** Decoupled: parameters shrink by learningRate · weightDecay. */
  readonly weightDecay: number;
  /** Number of this update, from 1. */
  readonly step: number;
  /** Factor on the gradients, as clipping gives it. */
  readonly gradientScale: number;
}

/** What an update needs to know of its settings, in the order in which kernels take it. */
export function adamWCoefficients(
  settings: AdamWSettings,
): [number, number, number, number, number, number, number] {
  const { learningRate, beta1, beta2, epsilon, weightDecay, step, gradientScale } = settings;
  invariant(step >= 1, `AdamW counts its updates from 1, not from ${step}`);
  const stepSize = learningRate / (1 - elementary.power(beta1, step));
  const rootCorrection = 1 / Math.sqrt(1 - elementary.power(beta2, step));
  return [gradientScale, 1 - beta1, 1 - beta2, learningRate * weightDecay, stepSize, rootCorrection, epsilon];
}

/**
 * One AdamW update (Loshchilov & Hutter, 2019; PyTorch's formula) in place. A value's result does not depend on how a
 * buffer is cut into views.
 * @param sums gets for each block of BLOCK_ELEMENTS the squares of how far its elements moved and of what they were
 */
export function adamW(buffers: AdamWBuffers, settings: AdamWSettings, sums: Float64Array): void {
  const { parameters, gradients, firstMoment, secondMoment } = buffers;
  const { length } = parameters;
  for (const buffer of [gradients, firstMoment, secondMoment]) {
    invariant(buffer.length === length, `AdamW got ${buffer.length} values for ${length} parameters`);
  }
  const coefficients = adamWCoefficients(settings);
  if (nativeCore()) {
    const arrays = [parameters, gradients, firstMoment, secondMoment];
    callNative('adamW', ...arrays, sums, length, BLOCK_ELEMENTS, ...coefficients);
    return;
  }
  const [scale, moment1, moment2, decay, stepSize, rootCorrection, epsilon] = coefficients;
  sums.fill(0);
  for (let i = 0; i < length; i++) {
    const value = parameters[i]!;
    const gradient = gradients[i]! * scale;
    const first = firstMoment[i]! + (gradient - firstMoment[i]!) * moment1;
    const second = secondMoment[i]! + (gradient * gradient - secondMoment[i]!) * moment2;
    const update = (stepSize * first) / (Math.sqrt(second) * rootCorrection + epsilon);
    firstMoment[i] = first;
    secondMoment[i] = second;
    const place = 2 * Math.floor(i / BLOCK_ELEMENTS);
    sums[place]! += (update + decay * value) ** 2;
    sums[place + 1]! += value ** 2;
    parameters[i] = value * (1 - decay) - update;
  }
}
