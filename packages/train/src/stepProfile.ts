/** What a profile of training steps says, in a trainer's terms. */

import type { Profile } from '@sluice/engine';

export interface StepPart {
  readonly name: string;
  /** Milliseconds a step inside of kernels: of the C++ core, or on the device. */
  readonly forwardMs: number;
  readonly backwardMs: number;
  /** After the backward pass. */
  readonly updateMs: number;
}

export interface StepProfile {
  /** Mean of a step. The parts and `betweenKernelsMs` add up to it. */
  readonly stepMs: number;
  /** The largest first. */
  readonly parts: readonly StepPart[];
  /** What is not spent inside of kernels: in JavaScript. On a device: while none runs, since it copies, or waits for the host. */
  readonly betweenKernelsMs: number;
  /**
   * The share of `betweenKernelsMs` outside of operations and of gradient functions: TensorFlow.js's own, and the trainer's. Not known of
   * a device, which computes beside all of these.
   */
  readonly outsideOperationsMs?: number;
  /** Calls of operations and gradient functions in a step. */
  readonly calls: number;
}

/** By the beginning of a kernel's name; the first that fits. */
const PARTS: readonly (readonly [string, string])[] = [
  ['SluiceGatedFeedForward', 'feed-forward'],
  ['SluiceExpertFeedForward', 'experts'],
  ['SluiceCountedFeedForward', 'experts'],
  ['SluiceLinearCrossEntropy', 'output layer, cross-entropy'],
  ['SluiceLinear', 'linear layers'],
  ['SluiceAttentionHeads', 'heads: norm, rotary'],
  ['SluiceGatedAttention', 'attention'],
  ['SluiceAttention', 'attention'],
  ['SluiceCapped', 'attention'],
  ['SluiceGatedDeltaRule', 'delta rule'],
  ['SluiceKimiDeltaRule', 'delta rule'],
  ['SluiceDeltaRecurrence', 'delta rule'],
  ['SluiceShortConvolution', 'short convolution'],
  ['SluiceGateHeads', 'gates'],
  ['SluiceRmsNorm', 'RMS norms'],
  ['SluiceAddResidual', 'residual sums'],
  ['SluiceRouter', 'routing'],
  ['SluicePlanDispatch', 'routing'],
  ['SluiceDispatchTokens', 'routing'],
  ['SluiceCombineTokens', 'routing'],
  ['SluiceEmbedding', 'embedding'],
  ['adamW', 'AdamW, clipping'],
  ['muon', 'Muon'],
  ['scaleFloats', 'Muon'],
  ['matrixProduct', 'Muon'],
  ['squaredNorms', 'AdamW, clipping'],
  ['sumTree', 'sums of gradients'],
];

function partOf(kernel: string): string {
  return PARTS.find(([beginning]) => kernel.startsWith(beginning))?.[1] ?? 'other operations';
}

/** @param steps training steps that were profiled */
export function stepProfile({ entries, totalMs, isOnDevice }: Profile, steps: number): StepProfile {
  const parts = new Map<string, { forwardMs: number; backwardMs: number; updateMs: number }>();
  let kernelMs = 0;
  let surroundingMs = 0;
  let calls = 0;
  for (const entry of entries) {
    kernelMs += entry.kernelMs;
    surroundingMs += entry.javascriptMs;
    if (entry.pass) calls += entry.calls;
    if (entry.kernelMs === 0) continue;
    const name = partOf(entry.name);
    const part = parts.get(name) ?? { forwardMs: 0, backwardMs: 0, updateMs: 0 };
    part[`${entry.pass ?? 'update'}Ms`] += entry.kernelMs / steps;
    parts.set(name, part);
  }
  const timeOf = (part: Omit<StepPart, 'name'>) => part.forwardMs + part.backwardMs + part.updateMs;
  return {
    stepMs: totalMs / steps,
    parts: [...parts].map(([name, part]) => ({ name, ...part })).sort((a, b) => timeOf(b) - timeOf(a)),
    betweenKernelsMs: (totalMs - kernelMs) / steps,
    ...(!isOnDevice && { outsideOperationsMs: (totalMs - kernelMs - surroundingMs) / steps }),
    calls: calls / steps,
  };
}
