/**
 * Clipping: by what the gradient is scaled before the optimizer sees it. It follows from numbers that all workers have agreed on,
 * and from those of steps before, so all scale alike.
 */

import { PARAMETER_GROUPS, type ParameterGroup } from '@sluice/model';
import type { AdaptiveClipConfig, OptimizerConfig } from './config.ts';

/** Norms of a step's gradient, before clipping. */
export interface GradientNorms {
  readonly gradientNorm: number;
  readonly groupNorms: Readonly<Partial<Record<ParameterGroup, number>>>;
}

/** For each group of parameters, the factor on its gradient. */
export type GradientScales = Readonly<Record<ParameterGroup, number>>;

/** JSON; what adaptive clipping remembers. */
export interface ClippingState {
  /** Norms of the warm-up so far; empty after it. */
  readonly norms: readonly number[];
  /** Running mean and variance of the clipped norm, after the warm-up. */
  readonly mean: number;
  readonly variance: number;
}

const NOTHING_YET: ClippingState = { norms: [], mean: 0, variance: 0 };

/** Keeps a norm at or below a limit. */
function scaleFor(norm: number, limit: number): number {
  return norm > limit ? limit / (norm + 1e-6) : 1;
}

function allGroups(scaleOf: (group: ParameterGroup) => number): GradientScales {
  return Object.fromEntries(
    PARAMETER_GROUPS.map((group) => [group, scaleOf(group)]),
  ) as unknown as GradientScales;
}

export class Clipping {
  readonly #kind: OptimizerConfig['clip'];
  /** The fixed limit; infinity for none. */
  readonly #limit: number;
  readonly #adaptive: AdaptiveLimit | undefined;

  constructor({ clip, clipNorm, adaptiveClip }: OptimizerConfig) {
    this.#kind = clip;
    this.#limit = clipNorm > 0 ? clipNorm : Number.POSITIVE_INFINITY;
    this.#adaptive = adaptiveClip && new AdaptiveLimit(adaptiveClip);
  }

  /** Of one step; called once for each whose update is applied, with finite norms. */
  scales({ gradientNorm, groupNorms }: GradientNorms): GradientScales {
    if (this.#kind === 'groups') return allGroups((group) => scaleFor(groupNorms[group] ?? 0, this.#limit));
    const limit = Math.min(this.#limit, this.#adaptive?.next(gradientNorm) ?? Number.POSITIVE_INFINITY);
    const scale = scaleFor(gradientNorm, limit);
    return allGroups(() => scale);
  }

  /** Undefined where nothing is remembered. */
  get state(): ClippingState | undefined {
    return this.#adaptive?.state;
  }

  /** @param state undefined for what a new run begins with */
  restore(state: ClippingState | undefined): void {
    if (this.#adaptive) this.#adaptive.state = state ?? NOTHING_YET;
  }
}

/**
 * A limit that follows the norm (ZClip, Kumar et al., arXiv 2504.02507): running mean μ and variance σ² of the clipped norm; a norm
 * whose z = (g − μ)/σ is above the threshold τ is clipped to μ + τ²σ/z, the harder the further it is out.
 */
class AdaptiveLimit {
  readonly #config: AdaptiveClipConfig;
  state = NOTHING_YET;

  constructor(config: AdaptiveClipConfig) {
    this.#config = config;
  }

  /** The limit of a norm, of which the next limits will know. There is none during the warm-up. */
  next(norm: number): number {
    const { decay, warmupSteps, threshold } = this.#config;
    const { norms, mean, variance } = this.state;
    if (norms.length > 0 || mean === 0) {
      this.state = warmedUp([...norms, norm], warmupSteps);
      return Number.POSITIVE_INFINITY;
    }
    const deviation = Math.sqrt(variance);
    const score = (norm - mean) / (deviation + 1e-6);
    const limit = score > threshold ? mean + (threshold ** 2 / score) * deviation : Number.POSITIVE_INFINITY;
    const clipped = Math.min(norm, limit);
    const newMean = decay * mean + (1 - decay) * clipped;
    const newVariance = decay * variance + (1 - decay) * (clipped - newMean) ** 2;
    this.state = { norms: [], mean: newMean, variance: newVariance };
    return limit;
  }
}

function warmedUp(norms: readonly number[], warmupSteps: number): ClippingState {
  if (norms.length < warmupSteps) return { norms, mean: 0, variance: 0 };
  const mean = norms.reduce((sum, norm) => sum + norm, 0) / norms.length;
  const variance = norms.reduce((sum, norm) => sum + (norm - mean) ** 2, 0) / norms.length;
  return { norms: [], mean, variance };
}
