import type { AdamWSettings } from '@sluice/engine';

/** Of a first step, with every term at work. */
export const SETTINGS: AdamWSettings = {
  learningRate: 0.02,
  beta1: 0.9,
  beta2: 0.95,
  epsilon: 1e-8,
  weightDecay: 0.1,
  step: 1,
  gradientScale: 0.7,
};
